/* SPDX-License-Identifier: Apache-2.0 */
#include "dit/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *nv_dit_layout_name(nv_dit_layout layout) {
    return layout == NV_DIT_ORIGINAL ? "original" : "diffusers";
}

/* The tensor `name` (diffusers') of the file, or NULL. */
static const nv_st_entry *find(const nv_weights *w, const nv_dit_names *names, const char *name) {
    char own[NV_DIT_NAME_SIZE], full[2 * NV_DIT_NAME_SIZE];
    if (!nv_dit_translate(NV_DIT_DIFFUSERS, name, names->layout, own)) return NULL;
    snprintf(full, sizeof full, "%s%s", names->prefix, own);
    return nv_weights_find(w, full);
}

/* ------------------------------------------------------------------ what is refused */

/* Parts of names that only models of another kind have. */
static const struct {
    const char *part, *kind;
} others[] = {
    {"vace_", "a VACE transformer"},
    {"img_emb.", "an image-to-video transformer"},
    {"image_embedder.", "an image-to-video transformer"},
    {".k_img.", "an image-to-video transformer"},
    {".add_k_proj.", "an image-to-video transformer"},
    {"ref_conv.", "a transformer with control inputs"},
    {"control_adapter.", "a transformer with control inputs"},
    {"face_adapter.", "a Wan2.2 Animate transformer"},
    {"audio_encoder.", "a Wan2.2 speech-to-video transformer"},
};

/* Tensors that scale others: without them the others are not the weights. */
static int is_scale(const char *name) {
    static const char *const ends[] = {".scale_weight", ".weight_scale", ".scale_input", ".input_scale",
                                       ".weight_scale_inv"};
    if (strcmp(name, "scaled_fp8") == 0) return 1;
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t end = strlen(ends[i]);
        if (length >= end && strcmp(name + length - end, ends[i]) == 0) return 1;
    }
    return 0;
}

static nabla_status refuse_tensor(const nv_weights *w, const nv_st_entry *e, const char *name, nv_error *err) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(name, others[i].part))
            return nv_fail(err, NABLA_UNSUPPORTED, "%s holds %s (tensor \"%s\"): choose a Wan2.1 text-to-video one",
                           nv_weights_path(w), others[i].kind, e->name);
    if (is_scale(name) || e->dtype == NV_ST_F8_E4M3 || e->dtype == NV_ST_F8_E5M2)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s is quantised to fp8 (tensor \"%s\", %s), which is not read: choose the file in bf16 or fp16",
                       nv_weights_path(w), e->name, nv_st_dtype_name(e->dtype));
    return NABLA_OK;
}

/* Other parts of a model that ComfyUI's checkpoints of everything hold beside the transformer. */
static int is_other_part(const char *name) {
    static const char *const parts[] = {"first_stage_model.", "vae.",         "text_encoders.",
                                        "cond_stage_model.",  "conditioner.", "spiece_model"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strncmp(name, parts[i], strlen(parts[i])) == 0) return 1;
    return 0;
}

static nabla_status check_tensors(const nv_weights *w, const nv_dit_names *names, nv_error *err) {
    const size_t skip = strlen(names->prefix);
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const nv_st_entry *e = nv_weights_at(w, i);
        if (strncmp(e->name, names->prefix, skip) == 0)
            NV_TRY(refuse_tensor(w, e, e->name + skip, err));
        else if (!is_other_part(e->name))
            return nv_fail(err, NABLA_INVALID_ARGUMENT,
                           "%s holds tensor \"%s\", which is no part of a Wan2.1 model, beside those under \"%s\"",
                           nv_weights_path(w), e->name, names->prefix);
    }
    return NABLA_OK;
}

/* Models of the same names and another use. */
static nabla_status check_channels(const nv_weights *w, const nv_dit_names *names, nv_error *err) {
    const nv_st_entry *patch = find(w, names, "patch_embedding.weight");
    if (!patch || patch->rank != 5) return NABLA_OK; /* told when its shape is looked at */
    if (patch->shape[1] == 36)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s holds an image-to-video transformer (36 channels in): choose a Wan2.1 text-to-video one",
                       nv_weights_path(w));
    if (patch->shape[1] == 48)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s holds a Wan2.2 TI2V-5B transformer (48 channels): choose a Wan2.1 text-to-video one",
                       nv_weights_path(w));
    return NABLA_OK;
}

/* ------------------------------------------------------------------ recognising */

nabla_status nv_dit_recognise(const nv_weights *w, nv_dit_names *out, nv_error *err) {
    static const char *const prefixes[] = {"", "model.diffusion_model.", "diffusion_model."};
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++) {
        for (int layout = NV_DIT_DIFFUSERS; layout <= NV_DIT_ORIGINAL; layout++) {
            *out = (nv_dit_names){(nv_dit_layout)layout, prefixes[p]};
            if (!find(w, out, "condition_embedder.time_embedder.linear_1.weight")) continue;
            NV_TRY(check_tensors(w, out, err));
            return check_channels(w, out, err);
        }
    }
    const nv_st_entry *first = nv_weights_at(w, 0);
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s holds no Wan2.1 transformer: its first tensor is \"%s\"",
                   nv_weights_path(w), first ? first->name : "none");
}

/* ------------------------------------------------------------------ sizes from shapes */

/* One more than the highest number of a block, which no file has more of than tensors. */
static int32_t count_layers(const nv_weights *w, const nv_dit_names *names) {
    static const char blocks[] = "blocks.";
    const size_t skip = strlen(names->prefix), length = sizeof blocks - 1;
    long most = -1;
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const char *name = nv_weights_at(w, i)->name;
        if (strncmp(name, names->prefix, skip) != 0 || strncmp(name + skip, blocks, length) != 0) continue;
        const long number = strtol(name + skip + length, NULL, 10);
        if (number > most && (size_t)number < nv_weights_count(w)) most = number;
    }
    return (int32_t)most + 1;
}

static nabla_status look(const nv_weights *w, const nv_dit_names *names, const char *name, int rank,
                         const nv_st_entry **out, nv_error *err) {
    const nv_st_entry *e = *out = find(w, names, name);
    const int64_t most = 1 << 20; /* of one size, as a configuration's */
    if (!e) return nv_fail(err, NABLA_CORRUPT, "%s lacks the tensor %s", nv_weights_path(w), name);
    int fits = e->rank == rank;
    for (int i = 0; fits && i < rank; i++)
        fits = e->shape[i] >= 1 && e->shape[i] <= most;
    if (fits) return NABLA_OK;
    return nv_fail(err, NABLA_CORRUPT, "%s: tensor \"%s\" has not the %d sizes of a Wan2.1 transformer's",
                   nv_weights_path(w), e->name, rank);
}

nabla_status nv_dit_config_of(const nv_weights *w, const nv_dit_names *names, nv_dit_config *out, nv_error *err) {
    const nv_st_entry *patch, *time, *text, *ffn, *head;
    NV_TRY(look(w, names, "patch_embedding.weight", 5, &patch, err));
    NV_TRY(look(w, names, "condition_embedder.time_embedder.linear_1.weight", 2, &time, err));
    NV_TRY(look(w, names, "condition_embedder.text_embedder.linear_1.weight", 2, &text, err));
    NV_TRY(look(w, names, "blocks.0.ffn.net.0.proj.weight", 2, &ffn, err));
    NV_TRY(look(w, names, "proj_out.weight", 2, &head, err));
    const int64_t dim = patch->shape[0], volume = patch->shape[2] * patch->shape[3] * patch->shape[4];
    nv_dit_config c = {.head_dim = 128, .rope_max = 1024, .eps = 1e-6f};
    if (dim % c.head_dim != 0 || head->shape[0] % volume != 0)
        return nv_fail(
            err, NABLA_UNSUPPORTED,
            "%s: %lld channels are no whole number of heads of 128, so the shapes do not tell the heads: put "
            "its config.json beside it",
            nv_weights_path(w), (long long)dim);
    c.heads = (int32_t)(dim / c.head_dim);
    for (int i = 0; i < 3; i++)
        c.patch[i] = (int32_t)patch->shape[2 + i];
    c.in_channels = (int32_t)patch->shape[1];
    c.out_channels = (int32_t)(head->shape[0] / volume);
    c.layers = count_layers(w, names);
    c.ffn_dim = (int32_t)ffn->shape[0];
    c.freq_dim = (int32_t)time->shape[1];
    c.text_dim = (int32_t)text->shape[1];
    c.cross_attn_norm = find(w, names, "blocks.0.norm2.weight") != NULL;
    *out = c;
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/wan_folder.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "weights/config.h"
#include "weights/file.h"
#include "weights/json.h"

enum { MAX_JSON = 1 << 24 };

static int is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* ------------------------------------------------------------------ the parts */

/* The first that is there of each: diffusers' layout, the original's, ComfyUI's files. */
static const char *const text_encoders[] = {"text_encoder/model.safetensors.index.json",
                                            "text_encoder/model.safetensors",
                                            "models_t5_umt5-xxl-enc-bf16.safetensors",
                                            "models_t5_umt5-xxl-enc-bf16.pth",
                                            "umt5_xxl_fp16.safetensors",
                                            NULL};
static const char *const tokenizers[] = {"tokenizer/spiece.model", "google/umt5-xxl/spiece.model", "spiece.model",
                                         NULL};
static const char *const vaes[] = {"vae/diffusion_pytorch_model.safetensors", "Wan2.1_VAE.safetensors",
                                   "Wan2.1_VAE.pth", "wan_2.1_vae.safetensors", NULL};

/* A part's config.json stands beside its weights where it has a folder of its own. */
static void find_part(char weights[NV_PATH_SIZE], char config[NV_PATH_SIZE], const char *folder,
                      const char *const *names, const char *own) {
    const size_t length = strlen(folder), own_length = strlen(own);
    config[0] = '\0';
    if (nv_path_find(weights, folder, names) && strncmp(weights + length + 1, own, own_length) == 0) {
        char name[64];
        snprintf(name, sizeof name, "%sconfig.json", own);
        nv_path_in(config, folder, name);
    }
}

void nv_wan_find_parts(const char *folder, nv_wan_parts *out) {
    find_part(out->text_encoder, out->text_config, folder, text_encoders, "text_encoder/");
    find_part(out->vae, out->vae_config, folder, vaes, "vae/");
    nv_path_find(out->tokenizer, folder, tokenizers);
}

/* ------------------------------------------------------------------ the policy */

/* Copies a number with an optional fraction, "0.6"; a full stop without digits after it ends it. */
static size_t copy_number(const char *text, char *out, size_t size) {
    size_t n = strspn(text, "0123456789");
    if (n > 0 && text[n] == '.' && isdigit((unsigned char)text[n + 1])) n += 1 + strspn(text + n + 1, "0123456789");
    if (n >= size) return 0;
    memcpy(out, text, n);
    out[n] = '\0';
    return n;
}

static const char *find_word(const char *text, const char *word) {
    for (; *text; text++)
        if (strncasecmp(text, word, strlen(word)) == 0) return text + strlen(word);
    return NULL;
}

int nv_wan_policy_of_name(const char *name, char *policy, size_t size) {
    char thr[16], window[3][16];
    const char *at = find_word(name, "nabla-");
    if (!at || copy_number(at, thr, sizeof thr) == 0) return 0;
    if (!(strtod(thr, NULL) > 0) || strtod(thr, NULL) > 1) return 0; /* a version's number, say */
    const char *rest = at + strlen(thr);
    if (strncasecmp(rest, "-sta", 4) != 0 && strncasecmp(rest, "_sta", 4) != 0)
        return snprintf(policy, size, "nabla-%s", thr) < (int)size;
    rest += 4;
    for (int i = 0; i < 3; i++) {
        if (*rest != '-' || copy_number(rest + 1, window[i], sizeof window[i]) == 0) return 0;
        rest += 1 + strlen(window[i]);
    }
    return snprintf(policy, size, "nabla-%s_sta-%s-%s-%s", thr, window[0], window[1], window[2]) < (int)size;
}

/* "sparse_algo" as the reference's flag, or "_policy", as a note of ours; absent is fine. */
static nabla_status policy_of_config(nv_wan_folder *f, nv_error *err) {
    static const char *const keys[] = {"sparse_algo", "_policy"};
    char *text;
    size_t size;
    nv_json j;
    NV_TRY(nv_file_read(f->config, MAX_JSON, &text, &size, err));
    nabla_status status = nv_json_parse(text, size, f->config, &j, err);
    free(text);
    if (status != NABLA_OK) return status;
    for (size_t i = 0; i < 2 && status == NABLA_OK; i++) {
        const json_t *value = json_object_get(j.object, keys[i]);
        if (!value || json_is_null(value) || f->policy[0]) continue;
        status = nv_json_text(&j, keys[i], f->policy, sizeof f->policy);
        f->policy_from = "the transformer's config.json";
    }
    nv_json_close(&j);
    return status;
}

static nabla_status find_policy(const char *path, nv_wan_folder *f, nv_error *err) {
    if (f->config[0]) NV_TRY(policy_of_config(f, err));
    if (f->policy[0]) return NABLA_OK;
    char *whole = realpath(path, NULL); /* "." and links have no name of their own */
    const char *slash = whole ? strrchr(whole, '/') : NULL;
    const char *named = strrchr(path, '/');
    if (slash && nv_wan_policy_of_name(slash, f->policy, sizeof f->policy))
        f->policy_from = "its name";
    else if (nv_wan_policy_of_name(named ? named : path, f->policy, sizeof f->policy))
        f->policy_from = "its name";
    free(whole);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ diffusers */

static nabla_status refuse(nv_error *err, const char *path, const char *kind) {
    return nv_fail(err, NABLA_UNSUPPORTED, "%.300s holds %s: choose a Wan2.1 text-to-video model", path, kind);
}

static nabla_status check_pipeline(const nv_json *j, const char *path) {
    static const struct {
        const char *class, *kind;
    } others[] = {
        {"WanImageToVideoPipeline", "an image-to-video model (WanImageToVideoPipeline)"},
        {"WanVACEPipeline", "a VACE model (WanVACEPipeline)"},
        {"WanAnimatePipeline", "a Wan2.2 Animate model (WanAnimatePipeline)"},
        {NV_KIND_CLIP, "a clip model that `nabla train` wrote, not a Wan2.1 model"},
    };
    char class[64];
    NV_TRY(nv_json_text(j, "_class_name", class, sizeof class));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(class, others[i].class) == 0) return refuse(j->err, path, others[i].kind);
    if (strcmp(class, "WanPipeline") != 0)
        return nv_fail(j->err, NABLA_UNSUPPORTED, "%.300s holds a %s, only a WanPipeline can be run", path, class);
    const json_t *second = json_array_get(json_object_get(j->object, "transformer_2"), 1);
    const json_t *boundary = json_object_get(j->object, "boundary_ratio");
    if (json_is_string(second) || json_is_number(boundary))
        return refuse(j->err, path, "a Wan2.2 model of two transformers (\"transformer_2\", \"boundary_ratio\")");
    if (json_is_true(json_object_get(j->object, "expand_timesteps")))
        return refuse(j->err, path, "a Wan2.2 TI2V-5B model (\"expand_timesteps\")");
    return NABLA_OK;
}

static nabla_status find_diffusers(const char *path, const char *index, nv_wan_folder *f, nv_error *err) {
    char *text;
    size_t size;
    nv_json j;
    NV_TRY(nv_file_read(index, MAX_JSON, &text, &size, err));
    nabla_status status = nv_json_parse(text, size, index, &j, err);
    free(text);
    if (status != NABLA_OK) return status;
    status = check_pipeline(&j, path);
    nv_json_close(&j);
    if (status != NABLA_OK) return status;
    if (!nv_path_in(f->transformer, path, "transformer"))
        return nv_fail(err, NABLA_IO, "%.300s has no folder transformer: download it", path);
    nv_path_in(f->config, path, "transformer/config.json");
    return NABLA_OK;
}

/* ------------------------------------------------------------------ the original, and files */

static nabla_status find_original(const char *path, nv_wan_folder *f, nv_error *err) {
    char other[NV_PATH_SIZE];
    if (nv_path_in(other, path, "high_noise_model") || nv_path_in(other, path, "low_noise_model"))
        return refuse(err, path, "a Wan2.2 model of two transformers (high_noise_model, low_noise_model)");
    if (nv_path_in(other, path, "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"))
        return refuse(err, path, "an image-to-video model (it has a CLIP image encoder)");
    NV_TRY(nv_path_set(f->transformer, path, err));
    nv_path_in(f->config, path, "config.json");
    return NABLA_OK;
}

static nabla_status find_file(const char *path, nv_wan_folder *f, nv_error *err) {
    static const char *const noises[] = {"high_noise", "low_noise"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (size_t i = 0; i < 2; i++)
        if (find_word(name, noises[i])) return refuse(err, path, "one of the two transformers of a Wan2.2 model");
    NV_TRY(nv_path_set(f->transformer, path, err));
    /* A ComfyUI file among others in a folder has no config.json of its own; an index or the file of a folder has. */
    char folder[NV_PATH_SIZE];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (strncmp(name, "diffusion_pytorch_model", 23) == 0) nv_path_in(f->config, folder, "config.json");
    return NABLA_OK;
}

nabla_status nv_wan_find(const char *path, nv_wan_folder *f, nv_error *err) {
    char index[NV_PATH_SIZE];
    *f = (nv_wan_folder){.policy_from = ""};
    if (!nv_file_exists(path))
        return nv_fail(err, NABLA_IO, "%.300s does not exist: name a model's folder or its transformer's file", path);
    if (is_folder(path)) nv_wan_find_parts(path, &f->parts);
    nabla_status status = !is_folder(path)                              ? find_file(path, f, err)
                          : nv_path_in(index, path, "model_index.json") ? find_diffusers(path, index, f, err)
                                                                        : find_original(path, f, err);
    return status == NABLA_OK ? find_policy(path, f, err) : status;
}

nabla_status nv_wan_open_transformer(const nv_wan_folder *f, nv_weights **w, nv_dit_names *names, nv_dit_config *config,
                                     nv_error *err) {
    *w = NULL;
    /* The configuration first: it is small, and tells other kinds of models by name. */
    if (f->config[0]) NV_TRY(nv_config_read_dit(f->config, config, err));
    NV_TRY(nv_weights_open(f->transformer, w, err));
    nabla_status status = nv_dit_recognise(*w, names, err);
    if (status == NABLA_OK && !f->config[0]) status = nv_dit_config_of(*w, names, config, err);
    if (status == NABLA_OK) return NABLA_OK;
    nv_weights_close(*w);
    *w = NULL;
    return status;
}

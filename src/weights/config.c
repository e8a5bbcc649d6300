/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/config.h"

#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/json.h"

/* Bounds far above any model, low enough that no product of two sizes overflows. */
enum {
    MAX_PATCH = 64,
    MAX_CHANNELS = 4096,
    MAX_HEADS = 1024,
    MIN_HEAD_DIM = 16,
    MAX_HEAD_DIM = 256,
    HEAD_DIM_STEP = 8,
    MAX_LAYERS = 1024,
    MAX_DIM = 1 << 20,
    MAX_POSITIONS = 1 << 20,
    MAX_SIDE = 1 << 16, /* pixels or frames */
    MAX_STEPS = 1000,
    MAX_FILE = 1 << 24
};

static const char transformer_class[] = "WanTransformer3DModel", original_class[] = "WanModel";
static const char qk_norm[] = "rms_norm_across_heads";

/* Only image-to-video models set these. */
static const char *const image_keys[] = {"image_dim", "added_kv_proj_dim", "pos_embed_seq_len"};
enum { IMAGE_KEYS = sizeof image_keys / sizeof *image_keys };

static nabla_status check_class(const nv_json *j, const char *expected) {
    const char *class = json_string_value(json_object_get(j->object, "_class_name"));
    if (class && strcmp(class, expected) != 0) {
        return nv_fail(j->err, NABLA_UNSUPPORTED, "%s describes a %s, only a %s can be run", j->name, class,
                       transformer_class);
    }
    for (int i = 0; i < IMAGE_KEYS; i++) {
        const json_t *value = json_object_get(j->object, image_keys[i]);
        if (value && !json_is_null(value)) {
            return nv_fail(j->err, NABLA_UNSUPPORTED,
                           "%s is of an image-to-video model (\"%s\" is set): choose a text-to-video one", j->name,
                           image_keys[i]);
        }
    }
    return NABLA_OK;
}

/* Models of the same class and another use. */
static nabla_status check_channels(const nv_json *j, const nv_dit_config *c) {
    if (c->in_channels == 36)
        return nv_fail(j->err, NABLA_UNSUPPORTED,
                       "%s is of an image-to-video model (36 channels in): choose a text-to-video one", j->name);
    if (c->in_channels == 48)
        return nv_fail(j->err, NABLA_UNSUPPORTED,
                       "%s is of Wan2.2 TI2V-5B (48 channels): choose a Wan2.1 text-to-video model", j->name);
    return NABLA_OK;
}

static nabla_status read_patch(const nv_json *j, int32_t patch[3]) {
    json_t *list;
    NV_TRY(nv_json_array(j, "patch_size", 3, 3, &list));
    for (size_t i = 0; i < 3; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t size = json_integer_value(item);
        if (!json_is_integer(item) || size < 1 || size > MAX_PATCH) {
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"patch_size\" must hold whole numbers in 1 to %d", j->name,
                           MAX_PATCH);
        }
        patch[i] = (int32_t)size;
    }
    return NABLA_OK;
}

static nabla_status check_qk_norm(const nv_json *j) {
    char norm[64];
    NV_TRY(nv_json_text(j, "qk_norm", norm, sizeof norm));
    if (strcmp(norm, qk_norm) != 0) {
        return nv_fail(j->err, NABLA_UNSUPPORTED, "%s: \"qk_norm\" is \"%s\", only \"%s\" can be run", j->name, norm,
                       qk_norm);
    }
    return NABLA_OK;
}

static nabla_status read_dit(const nv_json *j, nv_dit_config *c) {
    static const char *const keys[] = {"patch_size",
                                       "num_attention_heads",
                                       "attention_head_dim",
                                       "in_channels",
                                       "out_channels",
                                       "text_dim",
                                       "freq_dim",
                                       "ffn_dim",
                                       "num_layers",
                                       "cross_attn_norm",
                                       "qk_norm",
                                       "eps",
                                       "image_dim",
                                       "added_kv_proj_dim",
                                       "rope_max_seq_len",
                                       "pos_embed_seq_len",
                                       NULL};
    NV_TRY(check_class(j, transformer_class));
    NV_TRY(nv_json_known_keys(j, keys));
    NV_TRY(read_patch(j, c->patch));
    NV_TRY(nv_json_i32(j, "num_attention_heads", 1, MAX_HEADS, &c->heads));
    NV_TRY(nv_json_i32(j, "attention_head_dim", MIN_HEAD_DIM, MAX_HEAD_DIM, &c->head_dim));
    if (c->head_dim % HEAD_DIM_STEP != 0) {
        return nv_fail(j->err, NABLA_UNSUPPORTED, "%s: \"attention_head_dim\" is %d, but must be a multiple of %d",
                       j->name, c->head_dim, HEAD_DIM_STEP);
    }
    NV_TRY(nv_json_i32(j, "in_channels", 1, MAX_CHANNELS, &c->in_channels));
    c->out_channels = c->in_channels;
    NV_TRY(nv_json_i32_or(j, "out_channels", 1, MAX_CHANNELS, &c->out_channels));
    NV_TRY(nv_json_i32(j, "text_dim", 1, MAX_DIM, &c->text_dim));
    NV_TRY(nv_json_i32(j, "freq_dim", 2, MAX_DIM, &c->freq_dim));
    if (c->freq_dim % 2 != 0) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"freq_dim\" is %d, but must be even: half cosines, half sines",
                       j->name, c->freq_dim);
    }
    NV_TRY(nv_json_i32(j, "ffn_dim", 1, MAX_DIM, &c->ffn_dim));
    NV_TRY(nv_json_i32(j, "num_layers", 1, MAX_LAYERS, &c->layers));
    NV_TRY(nv_json_bool(j, "cross_attn_norm", &c->cross_attn_norm));
    NV_TRY(check_qk_norm(j));
    NV_TRY(nv_json_f32(j, "eps", 1e-12f, 1.0f, &c->eps));
    NV_TRY(nv_json_i32(j, "rope_max_seq_len", 1, MAX_POSITIONS, &c->rope_max));
    return check_channels(j, c);
}

/* ------------------------------------------------------------------ the original code's keys */

/* "model_type" names the use. */
static nabla_status check_model_type(const nv_json *j) {
    char type[32] = "t2v";
    if (json_object_get(j->object, "model_type")) NV_TRY(nv_json_text(j, "model_type", type, sizeof type));
    if (strcmp(type, "t2v") == 0) return NABLA_OK;
    const char *kind = strcmp(type, "i2v") == 0     ? "an image-to-video"
                       : strcmp(type, "flf2v") == 0 ? "a first-and-last-frame-to-video"
                       : strcmp(type, "vace") == 0  ? "a VACE"
                       : strcmp(type, "ti2v") == 0  ? "a Wan2.2 text-and-image-to-video"
                                                    : "another kind of";
    return nv_fail(j->err, NABLA_UNSUPPORTED,
                   "%s is of %s model (\"model_type\" is \"%s\"): choose a text-to-video one", j->name, kind, type);
}

static nabla_status optional_bool(const nv_json *j, const char *key, int32_t *out) {
    return json_object_get(j->object, key) ? nv_json_bool(j, key, out) : NABLA_OK;
}

/* Keys that the original leaves out have its defaults; the head dim is a quotient and RoPE has 1024 positions. */
static nabla_status read_original(const nv_json *j, nv_dit_config *c) {
    static const char *const keys[] = {"dim",         "eps",       "ffn_dim",    "freq_dim",    "in_dim",
                                       "model_type",  "num_heads", "num_layers", "out_dim",     "text_len",
                                       "patch_size",  "text_dim",  "qk_norm",    "window_size", "cross_attn_norm",
                                       "sparse_algo", NULL};
    int32_t dim, norm = 1;
    *c = (nv_dit_config){.patch = {1, 2, 2}, .text_dim = 4096, .cross_attn_norm = 1, .rope_max = 1024, .eps = 1e-6f};
    NV_TRY(check_model_type(j));
    NV_TRY(check_class(j, original_class));
    NV_TRY(nv_json_known_keys(j, keys));
    if (json_object_get(j->object, "patch_size")) NV_TRY(read_patch(j, c->patch));
    NV_TRY(nv_json_i32(j, "dim", MIN_HEAD_DIM, MAX_DIM, &dim));
    NV_TRY(nv_json_i32(j, "num_heads", 1, MAX_HEADS, &c->heads));
    c->head_dim = dim / c->heads;
    if (dim % c->heads != 0 || c->head_dim < MIN_HEAD_DIM || c->head_dim > MAX_HEAD_DIM ||
        c->head_dim % HEAD_DIM_STEP != 0)
        return nv_fail(j->err, NABLA_UNSUPPORTED,
                       "%s: \"dim\" %d over \"num_heads\" %d must give heads of %d to %d in steps of %d", j->name, dim,
                       c->heads, MIN_HEAD_DIM, MAX_HEAD_DIM, HEAD_DIM_STEP);
    NV_TRY(nv_json_i32(j, "in_dim", 1, MAX_CHANNELS, &c->in_channels));
    NV_TRY(nv_json_i32(j, "out_dim", 1, MAX_CHANNELS, &c->out_channels));
    NV_TRY(nv_json_i32_or(j, "text_dim", 1, MAX_DIM, &c->text_dim));
    NV_TRY(nv_json_i32(j, "freq_dim", 2, MAX_DIM, &c->freq_dim));
    if (c->freq_dim % 2 != 0) return nv_fail(j->err, NABLA_CORRUPT, "%s: \"freq_dim\" is odd", j->name);
    NV_TRY(nv_json_i32(j, "ffn_dim", 1, MAX_DIM, &c->ffn_dim));
    NV_TRY(nv_json_i32(j, "num_layers", 1, MAX_LAYERS, &c->layers));
    NV_TRY(optional_bool(j, "cross_attn_norm", &c->cross_attn_norm));
    NV_TRY(optional_bool(j, "qk_norm", &norm));
    if (!norm) return nv_fail(j->err, NABLA_UNSUPPORTED, "%s: models without \"qk_norm\" are not run", j->name);
    if (json_object_get(j->object, "eps")) NV_TRY(nv_json_f32(j, "eps", 1e-12f, 1.0f, &c->eps));
    return check_channels(j, c);
}

/* The two spellings share no key for the width of the model. */
static int is_original(const nv_json *j) {
    return json_object_get(j->object, "dim") != NULL || json_object_get(j->object, "model_type") != NULL;
}

nabla_status nv_config_parse_dit(const char *text, size_t size, const char *name, nv_dit_config *out, nv_error *err) {
    nv_json j;
    nv_dit_config config = {0};
    NV_TRY(nv_json_parse(text, size, name, &j, err));
    nabla_status status = is_original(&j) ? read_original(&j, &config) : read_dit(&j, &config);
    nv_json_close(&j);
    if (status == NABLA_OK) *out = config;
    return status;
}

nabla_status nv_config_read_dit(const char *path, nv_dit_config *out, nv_error *err) {
    char *text;
    size_t size;
    NV_TRY(nv_file_read(path, MAX_FILE, &text, &size, err));
    nabla_status status = nv_config_parse_dit(text, size, path, out, err);
    free(text);
    return status;
}

nabla_status nv_config_write_dit(const char *path, const nv_dit_config *c, nv_error *err) {
    json_t *object = json_pack(
        "{s:s, s:[i,i,i], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:s, s:o, s:n, s:n, s:i, s:n}", "_class_name",
        transformer_class, "patch_size", c->patch[0], c->patch[1], c->patch[2], "num_attention_heads", c->heads,
        "attention_head_dim", c->head_dim, "in_channels", c->in_channels, "out_channels", c->out_channels, "text_dim",
        c->text_dim, "freq_dim", c->freq_dim, "ffn_dim", c->ffn_dim, "num_layers", c->layers, "cross_attn_norm",
        c->cross_attn_norm, "qk_norm", qk_norm, "eps", nv_json_real(c->eps), "image_dim", "added_kv_proj_dim",
        "rope_max_seq_len", c->rope_max, "pos_embed_seq_len");
    return nv_json_write(path, object, err);
}

/* ------------------------------------------------------------------ model_index.json */

static nabla_status read_clip_index(const nv_json *j, nv_model_index *m) {
    static const char *const keys[] = {"width", "height",   "frames", "fps",    "policy",        "prediction",
                                       "shift", "guidance", "steps",  "solver", "position_grid", NULL};
    NV_TRY(nv_json_known_keys(j, keys));
    NV_TRY(nv_json_i32(j, "width", 1, MAX_SIDE, &m->width));
    NV_TRY(nv_json_i32(j, "height", 1, MAX_SIDE, &m->height));
    NV_TRY(nv_json_i32(j, "frames", 1, MAX_SIDE, &m->frames));
    NV_TRY(nv_json_i32(j, "fps", 1, 1000, &m->fps));
    NV_TRY(nv_json_text(j, "policy", m->policy, sizeof m->policy));
    NV_TRY(nv_json_text(j, "prediction", m->prediction, sizeof m->prediction));
    if (strcmp(m->prediction, "velocity") != 0 && strcmp(m->prediction, "sample") != 0) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"prediction\" is \"%s\", but must be \"velocity\" or \"sample\"",
                       j->name, m->prediction);
    }
    NV_TRY(nv_json_f32(j, "shift", 0.01f, 100.0f, &m->shift));
    NV_TRY(nv_json_f32(j, "guidance", 0.0f, 100.0f, &m->guidance));
    NV_TRY(nv_json_i32(j, "steps", 1, MAX_STEPS, &m->steps));
    NV_TRY(nv_json_text(j, "solver", m->solver, sizeof m->solver));
    return nv_json_i32_or(j, "position_grid", 0, MAX_SIDE, &m->position_grid);
}

nabla_status nv_config_parse_index(const char *text, size_t size, const char *name, nv_model_index *out,
                                   nv_error *err) {
    nv_json j;
    nv_model_index index = {0};
    NV_TRY(nv_json_parse(text, size, name, &j, err));
    nabla_status status = nv_json_text(&j, "_class_name", index.kind, sizeof index.kind);
    if (status == NABLA_OK && strcmp(index.kind, NV_KIND_CLIP) == 0) status = read_clip_index(&j, &index);
    nv_json_close(&j);
    if (status == NABLA_OK) *out = index;
    return status;
}

nabla_status nv_config_read_index(const char *path, nv_model_index *out, nv_error *err) {
    char *text;
    size_t size;
    NV_TRY(nv_file_read(path, MAX_FILE, &text, &size, err));
    nabla_status status = nv_config_parse_index(text, size, path, out, err);
    free(text);
    return status;
}

nabla_status nv_config_write_index(const char *path, const nv_model_index *m, nv_error *err) {
    json_t *object =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:o, s:o, s:i, s:s, s:i}", "_class_name", m->kind, "width",
                  m->width, "height", m->height, "frames", m->frames, "fps", m->fps, "policy", m->policy, "prediction",
                  m->prediction, "shift", nv_json_real(m->shift), "guidance", nv_json_real(m->guidance), "steps",
                  m->steps, "solver", m->solver, "position_grid", m->position_grid);
    return nv_json_write(path, object, err);
}

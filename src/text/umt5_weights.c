/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of an encoder by either of their names, and the sizes that their shapes give. */
#include "text/umt5_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/hash.h"
#include "weights/file.h"
#include "weights/json.h"

enum { NAME_SIZE = 128, MAX_CONFIG = 1 << 24, MAX_LAYERS = 1024, MAX_SIZE = 1 << 24 };

/* What shapes do not say, as every UMT5 has it. */
static const int32_t usual_max_distance = 128;
static const float usual_eps = 1e-6f;

/* A layer's tensors: transformers' names, the original's, and where they go. */
static const struct {
    const char *name, *original;
    size_t offset;
} layer_tensors[] = {
    {"layer.0.layer_norm", "norm1", offsetof(nv_umt5_layer, norm1)},
    {"layer.0.SelfAttention.q", "attn.q", offsetof(nv_umt5_layer, q)},
    {"layer.0.SelfAttention.k", "attn.k", offsetof(nv_umt5_layer, k)},
    {"layer.0.SelfAttention.v", "attn.v", offsetof(nv_umt5_layer, v)},
    {"layer.0.SelfAttention.o", "attn.o", offsetof(nv_umt5_layer, o)},
    {"layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding", offsetof(nv_umt5_layer, bias)},
    {"layer.1.layer_norm", "norm2", offsetof(nv_umt5_layer, norm2)},
    {"layer.1.DenseReluDense.wi_0", "ffn.gate.0", offsetof(nv_umt5_layer, gate)},
    {"layer.1.DenseReluDense.wi_1", "ffn.fc1", offsetof(nv_umt5_layer, up)},
    {"layer.1.DenseReluDense.wo", "ffn.fc2", offsetof(nv_umt5_layer, down)},
};
enum { LAYER_TENSORS = sizeof layer_tensors / sizeof *layer_tensors };

/* ------------------------------------------------------------------ finding */

static nabla_status missing(const nv_umt5 *m, const char *name, nv_error *err) {
    return nv_fail(err, NABLA_CORRUPT, "%s has no tensor \"%s\": it is not a UMT5 encoder, or not all of one",
                   nv_weights_path(m->files), name);
}

static nabla_status find_ends(nv_umt5 *m, int *original, nv_error *err) {
    static const char *const embeddings[] = {"shared.weight", "encoder.embed_tokens.weight", "token_embedding.weight"};
    for (int i = 0; i < 3 && !m->embedding; i++) {
        m->embedding = nv_weights_find(m->files, embeddings[i]);
        *original = i == 2;
    }
    if (!m->embedding) return missing(m, embeddings[0], err);
    const char *norm = *original ? "norm.weight" : "encoder.final_layer_norm.weight";
    m->norm = nv_weights_find(m->files, norm);
    return m->norm ? NABLA_OK : missing(m, norm, err);
}

static void layer_name(char *name, int original, int32_t layer, int tensor) {
    snprintf(name, NAME_SIZE, original ? "blocks.%d.%s.weight" : "encoder.block.%d.%s.weight", (int)layer,
             original ? layer_tensors[tensor].original : layer_tensors[tensor].name);
}

static int32_t count_layers(const nv_umt5 *m, int original) {
    char name[NAME_SIZE];
    int32_t layers = 0;
    for (; layers < MAX_LAYERS; layers++) {
        layer_name(name, original, layers, 0);
        if (!nv_weights_find(m->files, name)) break;
    }
    return layers;
}

static nabla_status find_layers(nv_umt5 *m, int original, nv_error *err) {
    char name[NAME_SIZE];
    const int32_t layers = count_layers(m, original);
    m->config.layers = layers;
    layer_name(name, original, 0, 0);
    if (layers == 0) return missing(m, name, err);
    m->layers = calloc((size_t)layers, sizeof *m->layers);
    if (!m->layers) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of %d layers", layers);
    for (int32_t i = 0; i < layers; i++)
        for (int t = 0; t < LAYER_TENSORS; t++) {
            layer_name(name, original, i, t);
            const nv_st_entry *e = nv_weights_find(m->files, name);
            if (!e) return missing(m, name, err);
            *(const nv_st_entry **)(void *)((char *)&m->layers[i] + layer_tensors[t].offset) = e;
        }
    return NABLA_OK;
}

/* ------------------------------------------------------------------ sizes */

/* cols 0: a vector. */
static nabla_status expect_shape(const nv_umt5 *m, const nv_st_entry *e, int64_t rows, int64_t cols, nv_error *err) {
    const int good =
        cols ? e->rank == 2 && e->shape[0] == rows && e->shape[1] == cols : e->rank == 1 && e->shape[0] == rows;
    const int floats =
        e->dtype == NV_ST_F32 || e->dtype == NV_ST_F16 || e->dtype == NV_ST_BF16 || e->dtype == NV_ST_F64;
    if (!floats)
        return nv_fail(err, NABLA_UNSUPPORTED, "%s: tensor \"%s\" is %s; encoders of fp32, fp16 and bf16 are read",
                       nv_weights_path(m->files), e->name, nv_st_dtype_name(e->dtype));
    if (good) return NABLA_OK;
    char wanted[64];
    snprintf(wanted, sizeof wanted, cols ? "[%" PRId64 ", %" PRId64 "]" : "[%" PRId64 "]", rows, cols);
    return nv_fail(err, NABLA_CORRUPT, "%s: tensor \"%s\" must be %s, as the others of its model",
                   nv_weights_path(m->files), e->name, wanted);
}

/* The two sizes of a matrix that others are measured by. */
static nabla_status take_shape(const nv_umt5 *m, const nv_st_entry *e, int32_t *rows, int32_t *cols, nv_error *err) {
    for (int i = 0; i < 2; i++)
        if (e->rank != 2 || e->shape[i] < 1 || e->shape[i] > MAX_SIZE)
            return nv_fail(err, NABLA_CORRUPT, "%s: tensor \"%s\" is no matrix of 1 to %d rows and columns",
                           nv_weights_path(m->files), e->name, MAX_SIZE);
    *rows = (int32_t)e->shape[0];
    *cols = (int32_t)e->shape[1];
    return NABLA_OK;
}

static nabla_status read_sizes(nv_umt5 *m, nv_error *err) {
    nv_umt5_config *c = &m->config;
    int32_t inner = 0, dim = 0;
    NV_TRY(take_shape(m, m->embedding, &c->vocab, &c->dim, err));
    NV_TRY(take_shape(m, m->layers[0].bias, &c->buckets, &c->heads, err));
    NV_TRY(take_shape(m, m->layers[0].q, &inner, &dim, err));
    NV_TRY(take_shape(m, m->layers[0].gate, &c->ffn_dim, &dim, err));
    c->head_dim = inner / c->heads;
    if (inner % c->heads != 0 || c->buckets % 4 != 0)
        return nv_fail(
            err, NABLA_CORRUPT, "%s: \"%s\" has %d heads and %d buckets, which \"%s\" of %d rows cannot have",
            nv_weights_path(m->files), m->layers[0].bias->name, c->heads, c->buckets, m->layers[0].q->name, inner);
    c->max_distance = usual_max_distance;
    c->eps = usual_eps;
    return NABLA_OK;
}

static nabla_status check_shapes(const nv_umt5 *m, nv_error *err) {
    const nv_umt5_config *c = &m->config;
    const int64_t dim = c->dim, inner = (int64_t)c->heads * c->head_dim, ffn = c->ffn_dim;
    NV_TRY(expect_shape(m, m->embedding, c->vocab, dim, err));
    NV_TRY(expect_shape(m, m->norm, dim, 0, err));
    for (int32_t i = 0; i < c->layers; i++) {
        const nv_umt5_layer *l = &m->layers[i];
        NV_TRY(expect_shape(m, l->norm1, dim, 0, err));
        NV_TRY(expect_shape(m, l->q, inner, dim, err));
        NV_TRY(expect_shape(m, l->k, inner, dim, err));
        NV_TRY(expect_shape(m, l->v, inner, dim, err));
        NV_TRY(expect_shape(m, l->o, dim, inner, err));
        NV_TRY(expect_shape(m, l->bias, c->buckets, c->heads, err));
        NV_TRY(expect_shape(m, l->norm2, dim, 0, err));
        NV_TRY(expect_shape(m, l->gate, ffn, dim, err));
        NV_TRY(expect_shape(m, l->up, ffn, dim, err));
        NV_TRY(expect_shape(m, l->down, dim, ffn, err));
    }
    return NABLA_OK;
}

/* ------------------------------------------------------------------ config.json */

static nabla_status expect_text(const nv_json *j, const char *key, const char *wanted) {
    const json_t *value = json_object_get(j->object, key);
    if (!value || (json_is_string(value) && strcmp(json_string_value(value), wanted) == 0)) return NABLA_OK;
    return nv_fail(j->err, NABLA_UNSUPPORTED, "%s: \"%s\" is %s%s%s, only \"%s\" can be run", j->name, key,
                   json_is_string(value) ? "\"" : "", json_is_string(value) ? json_string_value(value) : "no text",
                   json_is_string(value) ? "\"" : "", wanted);
}

/* transformers writes dozens of keys there, most of them of generation: those that matter are read, others left. */
static nabla_status read_config(nv_umt5_config *c, const nv_json *j) {
    const struct {
        const char *key;
        int32_t value;
    } sizes[] = {{"d_model", c->dim},     {"d_kv", c->head_dim},     {"d_ff", c->ffn_dim},
                 {"num_heads", c->heads}, {"num_layers", c->layers}, {"relative_attention_num_buckets", c->buckets}};
    NV_TRY(expect_text(j, "model_type", "umt5"));
    NV_TRY(expect_text(j, "feed_forward_proj", "gated-gelu"));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int32_t value = sizes[i].value;
        NV_TRY(nv_json_i32_or(j, sizes[i].key, 1, MAX_SIZE, &value));
        if (value != sizes[i].value)
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" is %d, but the weights have %d", j->name, sizes[i].key,
                           value, sizes[i].value);
    }
    NV_TRY(nv_json_i32_or(j, "relative_attention_max_distance", 1, MAX_SIZE, &c->max_distance));
    if (c->max_distance <= c->buckets / 4)
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"relative_attention_max_distance\" is %d, but must be more than %d",
                       j->name, c->max_distance, c->buckets / 4);
    if (!json_object_get(j->object, "layer_norm_epsilon")) return NABLA_OK;
    return nv_json_f32(j, "layer_norm_epsilon", 1e-12f, 1.0f, &c->eps);
}

static nabla_status read_config_file(nv_umt5_config *c, const char *path, nv_error *err) {
    char *text;
    size_t size;
    nv_json j;
    NV_TRY(nv_file_read(path, MAX_CONFIG, &text, &size, err));
    nabla_status status = nv_json_parse(text, size, path, &j, err);
    free(text);
    if (status != NABLA_OK) return status;
    status = read_config(c, &j);
    nv_json_close(&j);
    return status;
}

/* ------------------------------------------------------------------ the whole */

static nabla_status open_all(nv_umt5 *m, const char *weights, const char *config, nv_error *err) {
    int original = 0;
    NV_TRY(nv_weights_open(weights, &m->files, err));
    NV_TRY(find_ends(m, &original, err));
    NV_TRY(find_layers(m, original, err));
    NV_TRY(read_sizes(m, err));
    NV_TRY(check_shapes(m, err));
    return config ? read_config_file(&m->config, config, err) : NABLA_OK;
}

nabla_status nv_umt5_open(const char *weights, const char *config, nv_umt5 **out, nv_error *err) {
    *out = NULL;
    nv_umt5 *m = calloc(1, sizeof *m);
    if (!m) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a text encoder");
    nabla_status status = open_all(m, weights, config, err);
    if (status != NABLA_OK) {
        nv_umt5_close(m);
        return status;
    }
    *out = m;
    return NABLA_OK;
}

void nv_umt5_close(nv_umt5 *m) {
    if (!m) return;
    nv_weights_close(m->files);
    free(m->layers);
    free(m);
}

const nv_umt5_config *nv_umt5_get_config(const nv_umt5 *m) {
    return &m->config;
}

const nv_st_entry *nv_umt5_find(const nv_umt5 *m, const char *name) {
    return nv_weights_find(m->files, name);
}

static nabla_status hash_vector(const nv_umt5 *m, const nv_st_entry *e, float *values, uint64_t *hash, nv_error *err) {
    NV_TRY(nv_st_read_f32(e, values, (size_t)m->config.dim, err));
    *hash = nv_hash(*hash, values, (size_t)m->config.dim * sizeof *values);
    return NABLA_OK;
}

nabla_status nv_umt5_fingerprint(const nv_umt5 *m, uint64_t *hash, nv_error *err) {
    float *values = malloc((size_t)m->config.dim * sizeof *values);
    if (!values) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a norm of the text encoder");
    *hash = NV_HASH_BEGIN;
    nabla_status status = hash_vector(m, m->norm, values, hash, err);
    for (int32_t i = 0; i < m->config.layers && status == NABLA_OK; i++) {
        status = hash_vector(m, m->layers[i].norm1, values, hash, err);
        if (status == NABLA_OK) status = hash_vector(m, m->layers[i].norm2, values, hash, err);
    }
    free(values);
    return status;
}

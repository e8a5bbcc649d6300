/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a Wan2.1 transformer: their names in both layouts, shapes, and how each begins. */
#include "dit/model.h"
#include "tensor/bf16.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that depend on the configuration. */
typedef enum size_code {
    NONE,
    ONE,
    TWO,
    SIX,
    DIM,
    DIM6,
    FFN,
    TEXT,
    FREQ,
    CHANNELS,
    PATCH_F,
    PATCH_H,
    PATCH_W,
    PATCH_OUT,
    SIZES
} size_code;

typedef enum start {
    XAVIER,    /* uniform within sqrt(6 / (fan in + fan out)) */
    NARROW,    /* N(0, 0.02) */
    ZEROS,     /* biases, and the head so that a new model predicts nothing */
    ONES,      /* norms */
    MODULATION /* N(0, 1) / sqrt(dim) */
} start;

typedef enum kind {
    MATRIX,  /* products read it in the compute dtype */
    PRECISE, /* a matrix that stays fp32 */
    VECTOR   /* fp32, without weight decay */
} kind;

typedef struct entry {
    const char *name;     /* diffusers', the engine's own */
    const char *original; /* that of the original code and of ComfyUI's files */
    size_code shape[5];
    start begin;
    kind kind;
} entry;

/* Their order is that of the arena: weights (and biases) that act as one product lie one after the other. */
static const entry block_entries[] = {
    {"scale_shift_table", "modulation", {ONE, SIX, DIM}, MODULATION, VECTOR},
    {"attn1.to_q.weight", "self_attn.q.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn1.to_k.weight", "self_attn.k.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn1.to_v.weight", "self_attn.v.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn1.to_q.bias", "self_attn.q.bias", {DIM}, ZEROS, VECTOR},
    {"attn1.to_k.bias", "self_attn.k.bias", {DIM}, ZEROS, VECTOR},
    {"attn1.to_v.bias", "self_attn.v.bias", {DIM}, ZEROS, VECTOR},
    {"attn1.norm_q.weight", "self_attn.norm_q.weight", {DIM}, ONES, VECTOR},
    {"attn1.norm_k.weight", "self_attn.norm_k.weight", {DIM}, ONES, VECTOR},
    {"attn1.to_out.0.weight", "self_attn.o.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn1.to_out.0.bias", "self_attn.o.bias", {DIM}, ZEROS, VECTOR},
    {"norm2.weight", "norm3.weight", {DIM}, ONES, VECTOR},
    {"norm2.bias", "norm3.bias", {DIM}, ZEROS, VECTOR},
    {"attn2.to_q.weight", "cross_attn.q.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn2.to_q.bias", "cross_attn.q.bias", {DIM}, ZEROS, VECTOR},
    {"attn2.to_k.weight", "cross_attn.k.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn2.to_v.weight", "cross_attn.v.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn2.to_k.bias", "cross_attn.k.bias", {DIM}, ZEROS, VECTOR},
    {"attn2.to_v.bias", "cross_attn.v.bias", {DIM}, ZEROS, VECTOR},
    {"attn2.norm_q.weight", "cross_attn.norm_q.weight", {DIM}, ONES, VECTOR},
    {"attn2.norm_k.weight", "cross_attn.norm_k.weight", {DIM}, ONES, VECTOR},
    {"attn2.to_out.0.weight", "cross_attn.o.weight", {DIM, DIM}, XAVIER, MATRIX},
    {"attn2.to_out.0.bias", "cross_attn.o.bias", {DIM}, ZEROS, VECTOR},
    {"ffn.net.0.proj.weight", "ffn.0.weight", {FFN, DIM}, XAVIER, MATRIX},
    {"ffn.net.0.proj.bias", "ffn.0.bias", {FFN}, ZEROS, VECTOR},
    {"ffn.net.2.weight", "ffn.2.weight", {DIM, FFN}, XAVIER, MATRIX},
    {"ffn.net.2.bias", "ffn.2.bias", {DIM}, ZEROS, VECTOR},
};

static const entry model_entries[] = {
    {"patch_embedding.weight", "patch_embedding.weight", {DIM, CHANNELS, PATCH_F, PATCH_H, PATCH_W}, XAVIER, MATRIX},
    {"patch_embedding.bias", "patch_embedding.bias", {DIM}, ZEROS, VECTOR},
    {"condition_embedder.time_embedder.linear_1.weight", "time_embedding.0.weight", {DIM, FREQ}, NARROW, PRECISE},
    {"condition_embedder.time_embedder.linear_1.bias", "time_embedding.0.bias", {DIM}, ZEROS, VECTOR},
    {"condition_embedder.time_embedder.linear_2.weight", "time_embedding.2.weight", {DIM, DIM}, NARROW, PRECISE},
    {"condition_embedder.time_embedder.linear_2.bias", "time_embedding.2.bias", {DIM}, ZEROS, VECTOR},
    {"condition_embedder.time_proj.weight", "time_projection.1.weight", {DIM6, DIM}, XAVIER, PRECISE},
    {"condition_embedder.time_proj.bias", "time_projection.1.bias", {DIM6}, ZEROS, VECTOR},
    {"condition_embedder.text_embedder.linear_1.weight", "text_embedding.0.weight", {DIM, TEXT}, NARROW, MATRIX},
    {"condition_embedder.text_embedder.linear_1.bias", "text_embedding.0.bias", {DIM}, ZEROS, VECTOR},
    {"condition_embedder.text_embedder.linear_2.weight", "text_embedding.2.weight", {DIM, DIM}, NARROW, MATRIX},
    {"condition_embedder.text_embedder.linear_2.bias", "text_embedding.2.bias", {DIM}, ZEROS, VECTOR},
    {"scale_shift_table", "head.modulation", {ONE, TWO, DIM}, MODULATION, VECTOR},
    {"proj_out.weight", "head.head.weight", {PATCH_OUT, DIM}, ZEROS, PRECISE},
    {"proj_out.bias", "head.head.bias", {PATCH_OUT}, ZEROS, VECTOR},
};

enum {
    BLOCK_ENTRIES = sizeof block_entries / sizeof *block_entries,
    MODEL_ENTRIES = sizeof model_entries / sizeof *model_entries,
    NAME_SIZE = NV_DIT_NAME_SIZE
};

static int left_out(const nv_dit *m, const entry *e) {
    return !m->config.cross_attn_norm && strncmp(e->name, "norm2.", 6) == 0;
}

static void sizes_of(const nv_dit *m, int64_t sizes[SIZES]) {
    const nv_dit_config *c = &m->config;
    const int64_t values[SIZES] = {0,           1,           2,           6,           m->dim,
                                   6 * m->dim,  c->ffn_dim,  c->text_dim, c->freq_dim, c->in_channels,
                                   c->patch[0], c->patch[1], c->patch[2], m->patch_out};
    memcpy(sizes, values, sizeof values);
}

static nabla_status list_one(nv_dit *m, const entry *e, int32_t layer, const int64_t sizes[SIZES], nv_error *err) {
    nv_parameter *p = &m->parameters[m->count];
    char *name = m->names + m->count * NAME_SIZE;
    if (left_out(m, e)) return NABLA_OK;
    if (layer < 0)
        snprintf(name, NAME_SIZE, "%s", e->name);
    else
        snprintf(name, NAME_SIZE, "blocks.%d.%s", (int)layer, e->name);
    p->name = name;
    p->layer = layer;
    p->decay = e->kind != VECTOR;
    p->rounded = e->kind == MATRIX && m->compute == NABLA_BF16;
    p->count = 1;
    for (p->rank = 0; p->rank < 5 && e->shape[p->rank] != NONE; p->rank++) {
        p->shape[p->rank] = sizes[e->shape[p->rank]];
        if (__builtin_mul_overflow(p->count, (size_t)p->shape[p->rank], &p->count))
            return nv_fail(err, NABLA_OVERFLOW, "%s is too large; check the model's configuration", name);
    }
    if (__builtin_add_overflow(m->total, p->count, &m->total) || m->total > SIZE_MAX / 16)
        return nv_fail(err, NABLA_OVERFLOW, "the model is too large; check its configuration");
    m->count++;
    return NABLA_OK;
}

nabla_status nv_dit_list_parameters(nv_dit *m, nv_error *err) {
    int64_t sizes[SIZES];
    const size_t most = MODEL_ENTRIES + (size_t)m->config.layers * BLOCK_ENTRIES;
    sizes_of(m, sizes);
    m->parameters = calloc(most, sizeof *m->parameters);
    m->names = calloc(most, NAME_SIZE);
    if (!m->parameters || !m->names) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of parameters");
    for (int i = 0; i < MODEL_ENTRIES; i++)
        NV_TRY(list_one(m, &model_entries[i], -1, sizes, err));
    for (int32_t layer = 0; layer < m->config.layers; layer++)
        for (int i = 0; i < BLOCK_ENTRIES; i++)
            NV_TRY(list_one(m, &block_entries[i], layer, sizes, err));
    return NABLA_OK;
}

nv_parameter *nv_dit_find(nv_dit *m, int32_t layer, const char *name) {
    char full[NAME_SIZE];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blocks.%d.%s", (int)layer, name);
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->parameters[i].name, full) == 0) return &m->parameters[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------------ names */

static const char *name_in(const entry *e, nv_dit_layout layout) {
    return layout == NV_DIT_ORIGINAL ? e->original : e->name;
}

static const entry *named(const entry *list, int count, nv_dit_layout layout, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(name_in(&list[i], layout), name) == 0) return &list[i];
    return NULL;
}

/* The length of "blocks.N." in front of a name, N written as numbers are; 0 if it is of no block. */
static size_t block_prefix(const char *name) {
    static const char blocks[] = "blocks.";
    const size_t begin = sizeof blocks - 1;
    if (strncmp(name, blocks, begin) != 0) return 0;
    const size_t digits = strspn(name + begin, "0123456789");
    if (digits == 0 || digits > 6 || (digits > 1 && name[begin] == '0') || name[begin + digits] != '.') return 0;
    return begin + digits + 1;
}

int nv_dit_translate(nv_dit_layout from, const char *name, nv_dit_layout to, char out[NV_DIT_NAME_SIZE]) {
    const size_t block = block_prefix(name);
    const entry *e = block ? named(block_entries, BLOCK_ENTRIES, from, name + block)
                           : named(model_entries, MODEL_ENTRIES, from, name);
    if (!e) return 0;
    snprintf(out, NV_DIT_NAME_SIZE, "%.*s%s", (int)block, name, name_in(e, to));
    return 1;
}

/* ------------------------------------------------------------------------------------------ random start */

static const entry *entry_of(const nv_parameter *p) {
    const int in_block = strncmp(p->name, "blocks.", 7) == 0;
    const char *name = in_block ? strchr(p->name + 7, '.') + 1 : p->name;
    const entry *list = in_block ? block_entries : model_entries;
    while (strcmp(list->name, name) != 0)
        list++;
    return list;
}

static void draw(nv_philox *g, const nv_parameter *p, start begin, int64_t dim, float *out, size_t n) {
    const double fan_out = (double)p->shape[0], fan_in = (double)p->count / fan_out;
    const float bound = (float)sqrt(6.0 / (fan_in + fan_out));
    const float width = begin == NARROW ? 0.02f : 1.0f / sqrtf((float)dim);
    if (begin == NARROW || begin == MODULATION) nv_philox_normal(g, out, n);
    for (size_t i = 0; i < n; i++) {
        if (begin == XAVIER)
            out[i] = (2.0f * nv_philox_uniform(g) - 1.0f) * bound;
        else if (begin == ZEROS || begin == ONES)
            out[i] = begin == ONES;
        else
            out[i] *= width;
    }
}

void nv_dit_init(nv_dit *m, uint64_t seed) {
    float piece[4096];
    const size_t most = sizeof piece / sizeof *piece;
    for (size_t i = 0; i < m->count; i++) {
        const nv_parameter *p = &m->parameters[i];
        const entry *e = entry_of(p);
        nv_philox g = nv_philox_at(seed, i);
        for (size_t at = 0; at < p->count; at += most) {
            const size_t n = p->count - at < most ? p->count - at : most;
            draw(&g, p, e->begin, m->dim, piece, n);
            nv_dit_write(m, p, at, piece, n);
        }
    }
}

enum { PIECE = 1 << 22, LINE = 1 << 12 /* numbers of a piece, and of what a thread draws in one go */ };

/* `count` numbers of parameter i from `first` on, as they are kept. */
static void draw_piece(const nv_dit *m, size_t i, uint64_t seed, size_t first, size_t count, void *out) {
    const nv_parameter *p = &m->parameters[i];
    const start begin = entry_of(p)->begin == ZEROS ? NARROW : entry_of(p)->begin;
#pragma omp parallel for schedule(static) num_threads(m->device->threads)
    for (size_t at = 0; at < count; at += LINE) {
        const size_t n = count - at < LINE ? count - at : LINE;
        float line[LINE];
        nv_philox g = nv_philox_at(seed, (uint64_t)i << 32 | (first + at) / LINE);
        draw(&g, p, begin, m->dim, line, n);
        if (p->value) memcpy((float *)out + at, line, n * sizeof *line);
        for (size_t j = 0; j < n && !p->value; j++)
            ((nv_bf16 *)out)[at + j] = nv_bf16_from_float(line[j]);
    }
}

nabla_status nv_dit_randomise(nv_dit *m, uint64_t seed, nv_error *err) {
    void *piece = malloc((size_t)PIECE * sizeof(float));
    if (!piece) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for random weights");
    for (size_t i = 0; i < m->count; i++) {
        const nv_parameter *p = &m->parameters[i];
        const size_t size = p->value ? sizeof(float) : sizeof(nv_bf16);
        nv_dit_reach(m, p, 1);
        unsigned char *to = p->value ? (unsigned char *)p->value : (unsigned char *)p->copy;
        for (size_t at = 0; at < p->count; at += PIECE) {
            const size_t n = p->count - at < PIECE ? p->count - at : PIECE;
            draw_piece(m, i, seed, at, n, piece);
            m->device->ops->upload(m->device, to + at * size, piece, n * size);
        }
    }
    free(piece);
    return nv_dit_update(m, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "text/umt5.h"

#include <math.h>
#include <stdlib.h>

#include "nn/linear.h"
#include "nn/load.h"
#include "tensor/arena.h"
#include "text/umt5_weights.h"

enum { MATRICES = 7 }; /* of a layer */

/* Those of a layer's matrices that are multiplied by the same rows, their outputs side by side. */
typedef struct weights {
    int first, count;
    nv_matrix copy; /* of all, one under the other; without data where they are used in place */
} weights;

/* Everything that a call holds in the device's memory, laid out by one piece of code for the estimate and the use. */
typedef struct run {
    const nv_umt5 *m;
    nv_device *dev;
    const nv_umt5_job *job;
    int64_t rows, longest; /* tokens of all texts, of the longest */
    int64_t inner;         /* heads * head_dim */
    /* one layer's weights */
    int in_place; /* its matrices are used where they lie in the file */
    const nv_st_entry *matrices[MATRICES];
    float *norm1, *norm2;
    weights qkv_w, o_w, gate_up_w, down_w;
    float *bias; /* [heads, 2 * longest - 1] by distance */
    /* activations */
    nv_matrix x, normed, y; /* fp32 [rows, dim]: the stream, its norm, a branch's result */
    nv_matrix n;            /* the norm in the compute dtype */
    nv_matrix qkv, o, wide; /* [rows, 3 * inner], [rows, inner], [rows, 2 * ffn] */
    nv_matrix s, p;         /* [longest, longest]: one head's scores, probabilities */
    float *bias_table;      /* host: [buckets, heads] */
    float *bias_rows;       /* host: as bias */
    float *row;             /* host: [dim] */
} run;

/* ------------------------------------------------------------------ memory */

static nv_matrix take(nv_arena *arena, nabla_dtype dtype, int64_t rows, int64_t cols) {
    int64_t count = 0;
    if (__builtin_mul_overflow(rows, cols, &count)) arena->overflow = 1;
    return nv_matrix_of(nv_arena_take(arena, count, nabla_dtype_size(dtype)), dtype, rows, cols);
}

static weights take_weights(const run *r, nv_arena *arena, int first, int count, int64_t rows, int64_t cols) {
    weights w = {.first = first, .count = count};
    if (!r->in_place) w.copy = take(arena, r->job->compute, rows, cols);
    return w;
}

static void lay_out(run *r, nv_arena *arena) {
    const nv_umt5_config *c = &r->m->config;
    const nabla_dtype compute = r->job->compute;
    const int64_t dim = c->dim, ffn = c->ffn_dim, bias = c->heads * (2 * r->longest - 1);
    r->norm1 = nv_arena_take(arena, dim, sizeof(float));
    r->norm2 = nv_arena_take(arena, dim, sizeof(float));
    r->qkv_w = take_weights(r, arena, 0, 3, 3 * r->inner, dim);
    r->o_w = take_weights(r, arena, 3, 1, dim, r->inner);
    r->gate_up_w = take_weights(r, arena, 4, 2, 2 * ffn, dim);
    r->down_w = take_weights(r, arena, 6, 1, dim, ffn);
    r->bias = nv_arena_take(arena, bias, sizeof(float));
    r->x = take(arena, NABLA_FP32, r->rows, dim);
    r->normed = take(arena, NABLA_FP32, r->rows, dim);
    r->y = take(arena, NABLA_FP32, r->rows, dim);
    r->n = compute == NABLA_FP32 ? r->normed : take(arena, compute, r->rows, dim);
    r->qkv = take(arena, compute, r->rows, 3 * r->inner);
    r->o = take(arena, compute, r->rows, r->inner);
    r->wide = take(arena, compute, r->rows, 2 * ffn);
    r->s = take(arena, NABLA_FP32, r->longest, r->longest);
    r->p = compute == NABLA_FP32 ? r->s : take(arena, compute, r->longest, r->longest);
}

static void list_matrices(const nv_umt5_layer *l, const nv_st_entry *out[MATRICES]) {
    const nv_st_entry *const all[MATRICES] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};
    for (int i = 0; i < MATRICES; i++)
        out[i] = all[i];
}

/* Whether the device can multiply by this matrix as the file has it. */
static int reaches(nv_device *dev, const nv_st_entry *e, nabla_dtype compute) {
    const size_t size = nabla_dtype_size(compute);
    return e->dtype == (compute == NABLA_BF16 ? NV_ST_BF16 : NV_ST_F32) && !e->strides &&
           (uintptr_t)e->data % size == 0 && dev->ops->stow == NULL;
}

static int reaches_all(const nv_umt5 *m, nv_device *dev, nabla_dtype compute) {
    for (int32_t i = 0; i < m->config.layers; i++) {
        const nv_st_entry *matrices[MATRICES];
        list_matrices(&m->layers[i], matrices);
        for (int k = 0; k < MATRICES; k++)
            if (!reaches(dev, matrices[k], compute)) return 0;
    }
    return 1;
}

static nabla_status begin(run *r, const nv_umt5 *m, nv_device *dev, const nv_umt5_job *job, nv_error *err) {
    *r = (run){.m = m, .dev = dev, .job = job, .inner = (int64_t)m->config.heads * m->config.head_dim};
    if (job->compute != NABLA_FP32 && job->compute != NABLA_BF16)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the text encoder computes in fp32 or bf16: fp16 overflows in it");
    for (int32_t i = 0; i < job->count; i++) {
        const nv_umt5_text *t = &job->texts[i];
        if (t->count < 1) return nv_fail(err, NABLA_INVALID_ARGUMENT, "text %d has %d tokens", i, t->count);
        r->rows += t->count;
        if (t->count > r->longest) r->longest = t->count;
        for (int32_t k = 0; k < t->count; k++)
            if (t->ids[k] < 0 || t->ids[k] >= m->config.vocab)
                return nv_fail(err, NABLA_INVALID_ARGUMENT,
                               "token %d has id %d, the encoder's table %d rows: tokenizer and encoder do not match", k,
                               t->ids[k], m->config.vocab);
    }
    r->in_place = reaches_all(m, dev, job->compute);
    return NABLA_OK;
}

static size_t host_bytes(const run *r) {
    const nv_umt5_config *c = &r->m->config;
    return ((size_t)c->heads * (size_t)(c->buckets + 2 * r->longest - 1) + (size_t)c->dim) * sizeof(float);
}

static nabla_status measure(run *r, size_t *bytes, nv_error *err) {
    nv_arena arena = {0};
    lay_out(r, &arena);
    if (arena.overflow) return nv_fail(err, NABLA_OVERFLOW, "the text encoder is too large; check its weights");
    *bytes = arena.used;
    return NABLA_OK;
}

/* Matrices side by side count as one, as they are where they are copied. */
static size_t products_memory(const run *r) {
    const nv_umt5_config *c = &r->m->config;
    const nv_linear_size sizes[] = {{r->rows, c->dim, 3 * r->inner},
                                    {r->rows, r->inner, c->dim},
                                    {r->rows, c->dim, 2 * c->ffn_dim},
                                    {r->rows, c->ffn_dim, c->dim}};
    return nv_linear_memory(r->dev, r->job->compute, sizes, 4, 0);
}

nabla_status nv_umt5_memory(const nv_umt5 *m, nv_device *dev, const nv_umt5_job *job, size_t *bytes, nv_error *err) {
    run r;
    NV_TRY(begin(&r, m, dev, job, err));
    NV_TRY(measure(&r, bytes, err));
    *bytes += host_bytes(&r) + nv_load_memory() + products_memory(&r);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ weights */

/* The tensors' pages go as soon as they are copied: else the whole file would pile up in this process. */
static nabla_status copy_matrices(const run *r, const weights *w, nv_error *err) {
    int64_t first = 0;
    for (int i = 0; i < w->count; i++) {
        const nv_st_entry *e = r->matrices[w->first + i];
        NV_TRY(nv_load(r->dev, e, nv_matrix_rows(w->copy, first, e->shape[0]), err));
        nv_weights_forget(r->m->files, e);
        first += e->shape[0];
    }
    return NABLA_OK;
}

/* y = x w^T */
static nabla_status multiply(run *r, nv_matrix x, const weights *w, nv_matrix y, nv_error *err) {
    const nv_device_ops *ops = r->dev->ops;
    int64_t first = 0;
    if (!r->in_place) return ops->linear(r->dev, x, w->copy, NULL, y, err);
    for (int i = 0; i < w->count; i++) {
        const nv_st_entry *e = r->matrices[w->first + i];
        const nv_matrix part = nv_matrix_of((void *)(uintptr_t)e->data, x.dtype, e->shape[0], e->shape[1]);
        NV_TRY(ops->linear(r->dev, x, part, NULL, nv_matrix_cols(y, first, part.rows), err));
        first += part.rows;
    }
    return NABLA_OK;
}

static nabla_status load_vector(const run *r, const nv_st_entry *e, float *dst, nv_error *err) {
    return nv_load(r->dev, e, nv_matrix_of(dst, NABLA_FP32, 1, r->m->config.dim), err);
}

/* The bucket of a key `distance` tokens after the query. A quarter of the buckets is for single distances each way, a
   quarter for ranges that grow as powers up to max_distance, the last for all beyond. The hair keeps exact powers,
   whose logarithms may round down, where the formula has them. */
static int32_t bucket_of(const nv_umt5_config *c, int64_t distance) {
    const int32_t half = c->buckets / 2, single = half / 2, after = distance > 0 ? half : 0;
    const double away = fabs((double)distance);
    if (away < single) return after + (int32_t)away;
    const double power = log(away / single) / log((double)c->max_distance / single);
    const double step = floor(power * (half - single) + 1e-6);
    return after + (step < half - single ? single + (int32_t)step : half - 1);
}

static nabla_status load_bias(run *r, const nv_st_entry *e, nv_error *err) {
    const nv_umt5_config *c = &r->m->config;
    const int64_t heads = c->heads, distances = 2 * r->longest - 1;
    NV_TRY(nv_st_read_f32(e, r->bias_table, (size_t)(c->buckets * heads), err));
    for (int64_t i = 0; i < distances; i++) {
        const float *row = r->bias_table + bucket_of(c, i - (r->longest - 1)) * heads;
        for (int64_t h = 0; h < heads; h++)
            r->bias_rows[h * distances + i] = row[h];
    }
    r->dev->ops->upload(r->dev, r->bias, r->bias_rows, (size_t)(heads * distances) * sizeof(float));
    return NABLA_OK;
}

static nabla_status load_layer(run *r, const nv_umt5_layer *l, nv_error *err) {
    NV_TRY(load_vector(r, l->norm1, r->norm1, err));
    NV_TRY(load_vector(r, l->norm2, r->norm2, err));
    NV_TRY(load_bias(r, l->bias, err));
    list_matrices(l, r->matrices);
    if (r->in_place) return NABLA_OK;
    NV_TRY(copy_matrices(r, &r->qkv_w, err));
    NV_TRY(copy_matrices(r, &r->o_w, err));
    NV_TRY(copy_matrices(r, &r->gate_up_w, err));
    return copy_matrices(r, &r->down_w, err);
}

/* Of the table only the rows that the texts use are ever read. */
static nabla_status embed(run *r, nv_error *err) {
    const nv_st_entry *table = r->m->embedding;
    const int64_t dim = r->m->config.dim;
    const size_t size = nv_st_dtype_size(table->dtype);
    const int64_t stride = table->strides ? table->strides[0] : dim;
    int64_t row = 0;
    for (int32_t i = 0; i < r->job->count; i++)
        for (int32_t k = 0; k < r->job->texts[i].count; k++, row++) {
            nv_st_entry one = {.name = table->name, .dtype = table->dtype, .rank = 1, .shape = {dim}};
            one.data = (const unsigned char *)table->data + (size_t)(r->job->texts[i].ids[k] * stride) * size;
            one.bytes = (size_t)dim * size;
            one.strides = table->strides ? table->strides + 1 : NULL;
            NV_TRY(nv_st_read_f32(&one, r->row, (size_t)dim, err));
            r->dev->ops->upload(r->dev, nv_matrix_rows(r->x, row, 1).data, r->row, (size_t)dim * sizeof(float));
        }
    return NABLA_OK;
}

/* ------------------------------------------------------------------ a layer */

static nabla_status norm(run *r, const float *weight, nv_error *err) {
    const nv_qk_norm a = {
        .x = r->x, .y = r->normed, .heads = 1, .eps = r->m->config.eps, .weight = weight, .tokens = 1};
    NV_TRY(r->dev->ops->qk_norm(r->dev, &a, err));
    return r->n.data == r->normed.data ? NABLA_OK : r->dev->ops->cast(r->dev, r->normed, r->n, err);
}

/* x += y */
static nabla_status add_branch(run *r, nv_error *err) {
    const nv_seam s = {.rows = r->rows, .dim = r->x.cols, .group_rows = r->rows, .x = r->x.data, .y = r->y};
    return r->dev->ops->seam(r->dev, &s, err);
}

/* One head of one text, whose tokens are rows [first, first + count). */
static nabla_status attend(run *r, int64_t first, int64_t count, int32_t head, nv_error *err) {
    const nv_device_ops *ops = r->dev->ops;
    const int64_t d = r->m->config.head_dim, distances = 2 * r->longest - 1;
    const nv_matrix qkv = nv_matrix_rows(r->qkv, first, count), q = nv_matrix_cols(qkv, head * d, d),
                    k = nv_matrix_cols(qkv, r->inner + head * d, d),
                    v = nv_matrix_cols(qkv, 2 * r->inner + head * d, d),
                    o = nv_matrix_cols(nv_matrix_rows(r->o, first, count), head * d, d);
    const nv_matrix s = nv_matrix_of(r->s.data, NABLA_FP32, count, count),
                    p = nv_matrix_of(r->p.data, r->p.dtype, count, count);
    NV_TRY(ops->linear(r->dev, q, k, NULL, s, err));
    NV_TRY(ops->softmax(r->dev, s, 1.0f, r->bias + head * distances + (r->longest - count), p, err));
    return ops->linear_backward_input(r->dev, p, v, o, 0, err); /* p v */
}

static nabla_status self_attention(run *r, nv_error *err) {
    NV_TRY(norm(r, r->norm1, err));
    NV_TRY(multiply(r, r->n, &r->qkv_w, r->qkv, err));
    int64_t first = 0;
    for (int32_t i = 0; i < r->job->count; i++) {
        for (int32_t head = 0; head < r->m->config.heads; head++)
            NV_TRY(attend(r, first, r->job->texts[i].count, head, err));
        first += r->job->texts[i].count;
    }
    NV_TRY(multiply(r, r->o, &r->o_w, r->y, err));
    return add_branch(r, err);
}

static nabla_status feed_forward(run *r, nv_error *err) {
    const int64_t ffn = r->m->config.ffn_dim;
    const nv_matrix gate = nv_matrix_cols(r->wide, 0, ffn), up = nv_matrix_cols(r->wide, ffn, ffn);
    NV_TRY(norm(r, r->norm2, err));
    NV_TRY(multiply(r, r->n, &r->gate_up_w, r->wide, err));
    NV_TRY(r->dev->ops->gate(r->dev, NV_GELU_TANH, gate, up, gate, err));
    NV_TRY(multiply(r, gate, &r->down_w, r->y, err));
    return add_branch(r, err);
}

/* ------------------------------------------------------------------ the whole */

/* Its matrices come from the disk while the layer before is computed. */
static void expect_layer(const run *r, const nv_umt5_layer *l) {
    const nv_st_entry *matrices[MATRICES];
    list_matrices(l, matrices);
    for (int i = 0; i < MATRICES; i++)
        nv_weights_expect(r->m->files, matrices[i]);
}

/* Shared out, as one thread would take 10 ms for a layer's 100,000 pages. */
static void forget_layer(const run *r) {
#pragma omp parallel for num_threads(r->dev->threads) schedule(dynamic, 1)
    for (int i = 0; i < MATRICES; i++)
        nv_weights_forget(r->m->files, r->matrices[i]);
}

static nabla_status layers(run *r, nv_error *err) {
    const int32_t count = r->m->config.layers;
    expect_layer(r, &r->m->layers[0]);
    for (int32_t i = 0; i < count; i++) {
        if (r->job->progress && r->job->progress(r->job->user, i, count))
            return nv_fail(err, NABLA_CANCELLED, "cancelled at layer %d of %d of the text encoder", i + 1, count);
        NV_TRY(load_layer(r, &r->m->layers[i], err));
        if (i + 1 < count) expect_layer(r, &r->m->layers[i + 1]);
        NV_TRY(self_attention(r, err));
        NV_TRY(feed_forward(r, err));
        if (r->in_place) forget_layer(r);
    }
    return NABLA_OK;
}

static nabla_status download(run *r, nv_error *err) {
    const int64_t dim = r->m->config.dim;
    const float *from = r->normed.data;
    for (int32_t i = 0; i < r->job->count; i++) {
        const int64_t count = r->job->texts[i].count * dim;
        NV_TRY(r->dev->ops->download(r->dev, r->job->texts[i].context, from, (size_t)count * sizeof(float), err));
        from += count;
    }
    return NABLA_OK;
}

static nabla_status encode(run *r, nv_error *err) {
    NV_TRY(embed(r, err));
    NV_TRY(layers(r, err));
    NV_TRY(load_vector(r, r->m->norm, r->norm1, err));
    NV_TRY(norm(r, r->norm1, err));
    return download(r, err);
}

nabla_status nv_umt5_encode(const nv_umt5 *m, nv_device *dev, const nv_umt5_job *job, nv_error *err) {
    run r;
    nv_arena arena = {0};
    NV_TRY(begin(&r, m, dev, job, err));
    NV_TRY(measure(&r, &arena.size, err));
    NV_TRY(dev->ops->allocate(dev, arena.size, (void **)&arena.base, err));
    lay_out(&r, &arena);
    nabla_status status = NABLA_OK;
    r.bias_table = malloc(host_bytes(&r));
    if (r.bias_table) {
        r.bias_rows = r.bias_table + m->config.buckets * m->config.heads;
        r.row = r.bias_rows + m->config.heads * (2 * r.longest - 1);
        status = encode(&r, err);
    } else {
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the text encoder's position bias");
    }
    free(r.bias_table);
    dev->ops->release(dev, arena.base);
    return status;
}

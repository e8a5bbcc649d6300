/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gradients of softmax attention. With P = exp(scale S - LSE), delta = alpha sum_d dO O:
 *     dS = P (alpha dO V^T - delta),  dV = alpha P^T dO,  dK = scale dS^T Q,  dQ = scale dS K.
 * Both passes compute dS of a tile by the same function and add a query row's keys one by one in ascending order, so
 * they give the same bits of dQ.
 */
#include "generic.h"
#include "rows.h"

#include <math.h>

enum { MAX_DIM = 256, CHUNK = GENERIC_CHUNK * MAX_DIM, TILE = GENERIC_CHUNK * GENERIC_CHUNK };

/* The scratch: one tile of queries, one of keys, and what lies between them. */
typedef struct state {
    float q[CHUNK], d_o[CHUNK];
    float k[CHUNK];
    float k_t[CHUNK], v_t[CHUNK]; /* transposed, [D][GENERIC_CHUNK] */
    float p[TILE], ds[TILE];      /* [query][key] */
} state;

/* Rows [first, first + count). */
typedef struct tile {
    int32_t first, count;
} tile;

size_t backward_scratch_generic(int32_t head_dim) {
    (void)head_dim;
    return sizeof(state);
}

static tile next_tile(int32_t first, int32_t last) {
    return (tile){.first = first, .count = last - first < GENERIC_CHUNK ? last - first : GENERIC_CHUNK};
}

static void load_queries(const nabla_backward_task *t, nabla_dtype dtype, tile q, state *st) {
    generic_load(t->q, dtype, q.first, q.count, t->head_dim, st->q);
    generic_load(t->d_o, t->d_o_dtype, q.first, q.count, t->head_dim, st->d_o);
}

static void load_keys(const nabla_backward_task *t, nabla_dtype dtype, tile k, state *st) {
    generic_load(t->k, dtype, k.first, k.count, t->head_dim, st->k);
    generic_load_transposed(t->k, dtype, k.first, k.count, t->head_dim, st->k_t);
    generic_load_transposed(t->v, dtype, k.first, k.count, t->head_dim, st->v_t);
}

/* P and dS of the loaded tiles. */
static void tile_gradient(const nabla_backward_task *t, tile q, tile k, state *st) {
    generic_products(st->q, q.count, st->k_t, t->head_dim, st->p);
    generic_products(st->d_o, q.count, st->v_t, t->head_dim, st->ds);
    for (int32_t i = 0; i < q.count; i++) {
        const float lse = t->lse[q.first + i], delta = t->delta[q.first + i];
        float *p = st->p + i * GENERIC_CHUNK, *ds = st->ds + i * GENERIC_CHUNK;
        for (int32_t j = 0; j < k.count; j++) {
            p[j] = lse == -INFINITY ? 0.0f : expf(p[j] * t->scale - lse); /* every score was -inf */
            ds[j] = p[j] * (t->alpha * ds[j] - delta);
        }
    }
}

/* dQ of the tile's rows += dS K */
static void add_dq(const nabla_backward_task *t, tile q, tile k, const state *st) {
    for (int32_t i = 0; i < q.count; i++) {
        float *dq = t->dq + (int64_t)(q.first + i) * t->head_dim;
        for (int32_t j = 0; j < k.count; j++) {
            const float ds = st->ds[i * GENERIC_CHUNK + j];
            const float *row = st->k + (int64_t)j * t->head_dim;
            for (int32_t d = 0; d < t->head_dim; d++)
                dq[d] += ds * row[d];
        }
    }
}

/* dV += alpha P^T dO, dK += scale dS^T Q */
static void add_dk_dv(const nabla_backward_task *t, tile q, tile k, const state *st) {
    for (int32_t j = 0; j < k.count; j++) {
        const int64_t row = k.first - t->k_offsets[t->block] + j;
        float *dk = t->dk + row * t->dk_stride, *dv = t->dv + row * t->dv_stride;
        for (int32_t i = 0; i < q.count; i++) {
            const float p = t->alpha * st->p[i * GENERIC_CHUNK + j], ds = t->scale * st->ds[i * GENERIC_CHUNK + j];
            const float *q_row = st->q + (int64_t)i * t->head_dim, *do_row = st->d_o + (int64_t)i * t->head_dim;
            for (int32_t d = 0; d < t->head_dim; d++) {
                dv[d] += p * do_row[d];
                dk[d] += ds * q_row[d];
            }
        }
    }
}

static void backward_kv(const nabla_backward_task *t, nabla_dtype dtype) {
    state *st = t->scratch;
    const int32_t first = t->k_offsets[t->block], last = t->k_offsets[t->block + 1];
    for (int32_t k0 = first; k0 < last; k0 += GENERIC_CHUNK) {
        const tile k = next_tile(k0, last);
        const size_t bytes = (size_t)t->head_dim * sizeof(float);
        for (int64_t row = k0 - first; row < k0 - first + k.count; row++) {
            memset(t->dk + row * t->dk_stride, 0, bytes);
            memset(t->dv + row * t->dv_stride, 0, bytes);
        }
        load_keys(t, dtype, k, st);
        for (int32_t n = 0; n < t->block_count; n++) {
            const int32_t q_last = t->q_offsets[t->blocks[n] + 1];
            for (int32_t q0 = t->q_offsets[t->blocks[n]]; q0 < q_last; q0 += GENERIC_CHUNK) {
                const tile q = next_tile(q0, q_last);
                load_queries(t, dtype, q, st);
                tile_gradient(t, q, k, st);
                add_dk_dv(t, q, k, st);
                if (t->dq) add_dq(t, q, k, st);
            }
        }
    }
}

static void backward_q(const nabla_backward_task *t, nabla_dtype dtype) {
    state *st = t->scratch;
    const int32_t last = t->q_offsets[t->block + 1];
    for (int32_t q0 = t->q_offsets[t->block]; q0 < last; q0 += GENERIC_CHUNK) {
        const tile q = next_tile(q0, last);
        load_queries(t, dtype, q, st);
        for (int32_t n = 0; n < t->block_count; n++) {
            const int32_t k_last = t->k_offsets[t->blocks[n] + 1];
            for (int32_t k0 = t->k_offsets[t->blocks[n]]; k0 < k_last; k0 += GENERIC_CHUNK) {
                const tile k = next_tile(k0, k_last);
                load_keys(t, dtype, k, st);
                tile_gradient(t, q, k, st);
                add_dq(t, q, k, st);
            }
        }
    }
}

NABLA_DECL_BACKWARD(backward_kv_fp32_generic) {
    backward_kv(task, NABLA_FP32);
}

NABLA_DECL_BACKWARD(backward_kv_bf16_generic) {
    backward_kv(task, NABLA_BF16);
}

NABLA_DECL_BACKWARD(backward_q_fp32_generic) {
    backward_q(task, NABLA_FP32);
}

NABLA_DECL_BACKWARD(backward_q_bf16_generic) {
    backward_q(task, NABLA_BF16);
}

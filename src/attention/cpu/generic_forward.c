/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention of up to 64 query rows over listed key blocks, with the running maximum and sum of FlashAttention
   (arXiv 2205.14135, algorithm 1). */
#include "generic.h"
#include "rows.h"

#include <math.h>

enum { MAX_DIM = 256, TILE = NABLA_Q_ROWS * MAX_DIM, CHUNK = GENERIC_CHUNK * MAX_DIM };

/* The scratch; rows of D floats, though there is room for 256. */
typedef struct state {
    float q[TILE];
    float k[CHUNK]; /* transposed, [D][GENERIC_CHUNK] */
    float v[CHUNK];
    float s[NABLA_Q_ROWS * GENERIC_CHUNK]; /* scores, then exp(score - max) */
    float acc[TILE];
    float max[NABLA_Q_ROWS]; /* of the scaled scores so far */
    float sum[NABLA_Q_ROWS]; /* of exp(score - max) so far */
} state;

size_t forward_scratch_generic(int32_t head_dim) {
    (void)head_dim;
    return sizeof(state);
}

/* Raises row i's maximum to cover `count` new scores, and turns them into exp(score - max). */
static void softmax_step(state *st, int32_t i, int32_t count, int32_t head_dim, float scale) {
    float *s = st->s + i * GENERIC_CHUNK, *acc = st->acc + (int64_t)i * head_dim;
    float max = st->max[i], sum = 0.0f;
    for (int32_t j = 0; j < count; j++) {
        s[j] *= scale;
        max = s[j] > max ? s[j] : max;
    }
    const float shift = max == -INFINITY ? 0.0f : max; /* so that -inf - -inf is not asked for */
    const float fade = expf(st->max[i] - shift);
    for (int32_t j = 0; j < count; j++) {
        s[j] = expf(s[j] - shift);
        sum += s[j];
    }
    for (int32_t d = 0; d < head_dim; d++)
        acc[d] *= fade;
    st->max[i] = max;
    st->sum[i] = st->sum[i] * fade + sum;
}

/* acc[i] += sum over j of s[i][j] v[j] */
static void add_values(state *st, int32_t i, int32_t count, int32_t head_dim) {
    float *acc = st->acc + (int64_t)i * head_dim;
    for (int32_t j = 0; j < count; j++) {
        const float p = st->s[i * GENERIC_CHUNK + j];
        const float *v = st->v + (int64_t)j * head_dim;
        for (int32_t d = 0; d < head_dim; d++)
            acc[d] += p * v[d];
    }
}

/* O = beta O + alpha attention; O is not read where beta is 0. */
static void store_output(const nabla_forward_task *t, const state *st, int32_t i) {
    const float weight = st->sum[i] == 0.0f ? 0.0f : t->alpha / st->sum[i];
    float row[MAX_DIM] = {0};
    if (t->beta != 0.0f) nabla_load_row(t->o, t->o_dtype, i * t->o_stride, t->head_dim, row);
    for (int32_t d = 0; d < t->head_dim; d++)
        row[d] = t->beta * row[d] + weight * st->acc[(int64_t)i * t->head_dim + d];
    nabla_store_row(row, t->o, t->o_dtype, i * t->o_stride, t->head_dim);
    if (t->lse) t->lse[i] = st->sum[i] == 0.0f ? -INFINITY : st->max[i] + logf(st->sum[i]);
}

static void forward(const nabla_forward_task *t, nabla_dtype dtype) {
    state *st = t->scratch;
    generic_load(t->q, dtype, 0, t->q_count, t->head_dim, st->q);
    memset(st->acc, 0, (size_t)t->q_count * (size_t)t->head_dim * sizeof *st->acc);
    for (int32_t i = 0; i < t->q_count; i++) {
        st->max[i] = -INFINITY;
        st->sum[i] = 0.0f;
    }
    for (int32_t n = 0; n < t->block_count; n++) {
        const int32_t last = t->k_offsets[t->blocks[n] + 1];
        for (int32_t k0 = t->k_offsets[t->blocks[n]]; k0 < last; k0 += GENERIC_CHUNK) {
            const int32_t count = last - k0 < GENERIC_CHUNK ? last - k0 : GENERIC_CHUNK;
            generic_load_transposed(t->k, dtype, k0, count, t->head_dim, st->k);
            generic_load(t->v, dtype, k0, count, t->head_dim, st->v);
            generic_products(st->q, t->q_count, st->k, t->head_dim, st->s);
            for (int32_t i = 0; i < t->q_count; i++) {
                softmax_step(st, i, count, t->head_dim, t->scale);
                add_values(st, i, count, t->head_dim);
            }
        }
    }
    for (int32_t i = 0; i < t->q_count; i++)
        store_output(t, st, i);
}

NABLA_DECL_FORWARD(forward_fp32_generic) {
    forward(task, NABLA_FP32);
}

NABLA_DECL_FORWARD(forward_bf16_generic) {
    forward(task, NABLA_BF16);
}

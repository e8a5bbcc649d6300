/* SPDX-License-Identifier: Apache-2.0 */
/* The generic level's attention in 8 bits: what faster levels are tested against, and what processors without a dot of
   bytes run. The softmax is generic_forward.c's, but that each piece has a reference of its own, its largest score, so
   that its probabilities fill the bytes; what was summed before it is brought to the larger of the two. */
#include "generic.h"
#include "int8.inc.h"
#include "rows.h"

/* The scratch; rows of D, though there is room for 256. */
typedef struct state {
    int8_t q[NABLA_Q_ROWS * INT8_MOST_DIM];
    float q_scale[NABLA_Q_ROWS];
    int32_t q_sum[NABLA_Q_ROWS];
    float acc[NABLA_Q_ROWS * INT8_MOST_DIM];
    float max[NABLA_Q_ROWS]; /* of the scores so far, in log2 units */
    float sum[NABLA_Q_ROWS]; /* of 2^(score - max) so far */
} state;

static size_t scratch_size(int32_t head_dim) {
    (void)head_dim;
    return sizeof(state);
}

/* Scores of one query against n keys, to bytes; returns the largest score, and the bytes' sum. */
static float score_piece(const state *st, int32_t i, const char *k_piece, int32_t n, int32_t dim, uint8_t *p,
                         int32_t *total) {
    const uint8_t *k = int8_k_rows(k_piece);
    const int8_t *q = st->q + (int64_t)i * dim;
    const float scale = st->q_scale[i] * int8_k_scale(k_piece);
    int32_t s[INT8_ROWS], top = INT32_MIN;
    for (int32_t j = 0; j < n; j++, k += dim) {
        s[j] = -INT8_OFFSET * st->q_sum[i];
        for (int32_t d = 0; d < dim; d++)
            s[j] += k[d] * q[d];
        top = s[j] > top ? s[j] : top;
    }
    *total = 0;
    for (int32_t j = 0; j < n; j++) {
        const float x = INT8_TOP_P * exp2f((float)(s[j] - top) * scale);
        p[j] = x >= 0.0f ? (uint8_t)int8_round(x) : 0; /* NaN: the scale tells it */
        *total += p[j];
    }
    return (float)top * scale;
}

/* acc += factor * (p V) */
static void add_values(float *acc, float factor, const uint8_t *p, const char *v_piece, int32_t n, int32_t dim) {
    const float *scales = int8_v_scales(v_piece);
    const int8_t *v = int8_v_words(v_piece, dim);
    int32_t sums[INT8_MOST_DIM] = {0};
    for (int32_t j = 0; j < n; j++)
        for (int32_t d = 0; d < dim; d++)
            sums[d] += p[j] * v[4 * ((int64_t)(j / 4) * dim + d) + j % 4];
    for (int32_t d = 0; d < dim; d++)
        acc[d] += factor * scales[d] * (float)sums[d];
}

static void add_piece(state *st, int32_t i, const char *k_piece, const char *v_piece, int32_t n, int32_t dim) {
    uint8_t p[INT8_ROWS];
    int32_t total;
    float *acc = st->acc + (int64_t)i * dim;
    const float top = score_piece(st, i, k_piece, n, dim, p, &total);
    const float max = top > st->max[i] ? top : st->max[i], fade = exp2f(st->max[i] - max);
    const float factor = exp2f(top - max) / INT8_TOP_P;
    for (int32_t d = 0; d < dim; d++)
        acc[d] *= fade;
    st->max[i] = max;
    st->sum[i] = st->sum[i] * fade + factor * (float)total;
    add_values(acc, factor, p, v_piece, n, dim);
}

static void begin(const nabla_forward_task *t, nabla_dtype dtype, state *st) {
    const float log2_e = 1.44269504088896340736f;
    float row[INT8_MOST_DIM];
    memset(st->acc, 0, (size_t)t->q_count * (size_t)t->head_dim * sizeof *st->acc);
    for (int32_t i = 0; i < t->q_count; i++) {
        nabla_load_row(t->q.data, dtype, i * t->q.stride, t->head_dim, row);
        st->q_scale[i] =
            int8_quantise_q(row, t->head_dim, t->scale * log2_e, st->q + (int64_t)i * t->head_dim, &st->q_sum[i]);
        st->max[i] = -INFINITY;
        st->sum[i] = 0.0f;
    }
}

/* O = beta O + alpha attention; O is not read where beta is 0. */
static void store_output(const nabla_forward_task *t, nabla_dtype dtype, const state *st, int32_t i) {
    const float ln_2 = 0.69314718055994530942f;
    const int32_t some = !(st->sum[i] == 0.0f);
    const float weight = some ? t->alpha / st->sum[i] : 0.0f;
    float row[INT8_MOST_DIM] = {0};
    if (t->beta != 0.0f) nabla_load_row(t->o, t->o_dtype, i * t->o_stride, t->head_dim, row);
    for (int32_t d = 0; d < t->head_dim; d++)
        row[d] = t->beta * row[d] + weight * st->acc[(int64_t)i * t->head_dim + d];
    nabla_store_row(row, t->o, t->o_dtype, i * t->o_stride, t->head_dim);
    if (!t->lse) return;
    nabla_load_row(t->q.data, dtype, i * t->q.stride, t->head_dim, row);
    t->lse[i] = some ? st->max[i] * ln_2 + logf(st->sum[i]) +
                           int8_mean_score(row, int8_mean(t->packed_k), t->head_dim, t->scale)
                     : -INFINITY;
}

static void forward(const nabla_forward_task *t, nabla_dtype dtype) {
    state *st = t->scratch;
    const int32_t dim = t->head_dim;
    begin(t, dtype, st);
    for (int32_t b = 0; b < t->block_count; b++) {
        const int32_t block = t->blocks[b], last = t->k_offsets[block + 1];
        int32_t piece = t->k_pieces[block];
        for (int32_t at = t->k_offsets[block]; at < last; at += INT8_ROWS, piece++)
            for (int32_t i = 0; i < t->q_count; i++)
                add_piece(st, i, int8_k_piece(t->packed_k, piece, dim), int8_v_piece(t->packed_v, piece, dim),
                          last - at < INT8_ROWS ? last - at : INT8_ROWS, dim);
    }
    for (int32_t i = 0; i < t->q_count; i++)
        store_output(t, dtype, st, i);
}

#include "int8_kernels.inc.h"

nabla_forward_kernels int8_kernels_generic(nabla_dtype dtype) {
    return int8_kernels(dtype);
}

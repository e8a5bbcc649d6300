/* SPDX-License-Identifier: Apache-2.0 */
/* What the plan is made from: block means, and the softmax of their products. And delta, of the backward pass. */
#ifndef NABLA_SCORE_INC_H
#define NABLA_SCORE_INC_H

#include <float.h>
#include <math.h>

#include "words.inc.h"

/* Columns [d, d + vectors * VL) of the rows' sum. Rows are a stride apart, often pages: they are fetched ahead by hand,
   at a block's end those of the next. That there may be none is all the same to a fetch. */
ALWAYS_INLINE void sum_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t last, int32_t dim, int32_t d,
                            const int vectors, float *out) {
    enum { AHEAD = 16, LINE = 64 };
    const int64_t size = type == NABLA_BF16 ? 2 : 4;
    vf sum[8];
    UNROLLED
    for (int i = 0; i < vectors; i++)
        sum[i] = v_zero();
    for (int32_t r = first; r < last; r++) {
        const char *row = row_at(x, type, r);
        const uintptr_t ahead = (uintptr_t)row + (uintptr_t)((AHEAD * x.stride + d) * size);
        for (uintptr_t i = 0; i < (uintptr_t)(vectors * VL * size); i += LINE)
            _mm_prefetch((const char *)(ahead + i), _MM_HINT_T0);
        UNROLLED
        for (int i = 0; i < vectors; i++)
            sum[i] = v_add(sum[i], load_floats(row, type, d + i * VL, dim - d - i * VL));
    }
    UNROLLED
    for (int i = 0; i < vectors; i++)
        v_store_n(out + d + i * VL, dim - d - i * VL, sum[i]);
}

static void block_mean(nabla_rows x, nabla_dtype type, int32_t first, int32_t last, int32_t dim, float *mean) {
    int32_t d = 0;
    for (; d + 8 * VL <= dim; d += 8 * VL)
        sum_rows(x, type, first, last, dim, d, 8, mean);
    for (; d < dim; d += VL)
        sum_rows(x, type, first, last, dim, d, 1, mean);
    for (d = 0; d < dim; d++)
        mean[d] /= (float)(last - first);
}

/* Scaled products of up to SCORE_MR rows of q and two vectors of keys. Where there is but one, both are the same. */
static void score_tile(const float *q, int32_t rows, const float *const k[2], int32_t dim, float scale,
                       float *const out[2], int64_t out_ld) {
    vf low[SCORE_MR], high[SCORE_MR];
    const float *row[SCORE_MR];
    UNROLLED
    for (int32_t i = 0; i < SCORE_MR; i++) {
        low[i] = high[i] = v_zero();
        row[i] = q + (int64_t)(i < rows ? i : rows - 1) * dim;
    }
    UNROLLED_STEPS
    for (int32_t d = 0; d < dim; d++) {
        const vf a = v_load(k[0] + d * NABLA_SCORE_PANEL), b = v_load(k[1] + d * NABLA_SCORE_PANEL);
        UNROLLED
        for (int32_t i = 0; i < SCORE_MR; i++) {
            const vf x = v_set1(row[i][d]);
            low[i] = v_fma(x, a, low[i]);
            high[i] = v_fma(x, b, high[i]);
        }
    }
    for (int32_t i = 0; i < rows; i++) {
        v_store(out[0] + i * out_ld, v_mul(v_set1(scale), low[i]));
        v_store(out[1] + i * out_ld, v_mul(v_set1(scale), high[i]));
    }
}

/* -inf in place of what is not allowed (NULL: all is), and past n up to a whole vector. */
static void close_scores(float *x, int32_t n, const uint64_t *allowed) {
    const vf never = v_set1(-INFINITY);
    for (int32_t j = allowed ? 0 : n / VL * VL; j < n; j += VL) {
        const uint32_t inside = n - j < VL ? (1u << (n - j)) - 1u : UINT32_MAX;
        const uint32_t open = inside & (allowed ? (uint32_t)(allowed[j / 64] >> j % 64) : UINT32_MAX);
        v_store(x + j, v_pick(open, v_load(x + j), never));
    }
}

/* A row of scores, of whole vectors, to probabilities. Several vectors at a time: a maximum or a sum
   takes four cycles to come back. */
static void score_softmax(float *x, int32_t n, const uint64_t *allowed) {
    enum { CHAINS = 4, STEP = CHAINS * VL };
    vf top[CHAINS], sum[CHAINS];
    int32_t j = 0;
    close_scores(x, n, allowed);
    UNROLLED
    for (int c = 0; c < CHAINS; c++) {
        top[c] = v_set1(-INFINITY);
        sum[c] = v_zero();
    }
    for (; j + STEP <= n; j += STEP) {
        UNROLLED
        for (int c = 0; c < CHAINS; c++)
            top[c] = v_max(v_load(x + j + c * VL), top[c]);
    }
    for (; j < n; j += VL)
        top[0] = v_max(v_load(x + j), top[0]);
    const float most = v_top(v_max(v_max(top[0], top[1]), v_max(top[2], top[3])));
    const vf reference = v_set1(fmaxf(most, -FLT_MAX)); /* finite where nothing is allowed */
    for (j = 0; j + STEP <= n; j += STEP) {
        UNROLLED
        for (int c = 0; c < CHAINS; c++) {
            const vf y = v_exp2(v_sub(v_load(x + j + c * VL), reference));
            sum[c] = v_add(sum[c], y);
            v_store(x + j + c * VL, y);
        }
    }
    for (; j < n; j += VL) {
        const vf y = v_exp2(v_sub(v_load(x + j), reference));
        sum[0] = v_add(sum[0], y);
        v_store(x + j, y);
    }
    const float total = v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
    const vf share = v_set1(total == 0 ? 0.0f : 1.0f / total);
    for (j = 0; j < n; j += VL)
        v_store(x + j, v_mul(v_load(x + j), share));
}

/* Where key j's first element lies in the panels. */
static inline int64_t score_at(int32_t j, int32_t dim) {
    return (int64_t)(j / NABLA_SCORE_PANEL) * NABLA_SCORE_PANEL * dim + j % NABLA_SCORE_PANEL;
}

static void score_rows(const float *q_mean, int32_t rows, const float *k_panels, int32_t n, int32_t dim, float scale,
                       float *scores, int64_t stride) {
    for (int32_t j = 0; j < n; j += 2 * VL) {
        const int32_t next = n - j > VL ? j + VL : j;
        const float *const k[2] = {k_panels + score_at(j, dim), k_panels + score_at(next, dim)};
        for (int32_t i = 0; i < rows; i += SCORE_MR) {
            float *const out[2] = {scores + i * stride + j, scores + i * stride + next};
            score_tile(q_mean + (int64_t)i * dim, rows - i < SCORE_MR ? rows - i : SCORE_MR, k, dim, scale * LOG2_E,
                       out, stride);
        }
    }
}

/* A row's products are added up as the tile of dP adds them, from d = 0 in one chain: where one key has all of a row's
   probability, dP - delta is then exactly 0. Rows are independent, so several chains run at once. */
static void row_deltas(nabla_rows o, nabla_dtype o_dtype, nabla_rows d_o, nabla_dtype d_o_dtype, int32_t count,
                       int32_t dim, float alpha, float *delta) {
    enum { CHAINS = 8 };
    float a[CHAINS][256], b[CHAINS][256];
    for (int32_t r = 0; r < count; r += CHAINS) {
        const int32_t rows = count - r < CHAINS ? count - r : CHAINS;
        float sum[CHAINS] = {0};
        for (int32_t i = 0; i < CHAINS; i++)
            for (int32_t d = 0; d < dim; d += VL) {
                const int32_t row = i < rows ? r + i : r;
                v_store(a[i] + d, load_floats(row_at(o, o_dtype, row), o_dtype, d, dim - d));
                v_store(b[i] + d, load_floats(row_at(d_o, d_o_dtype, row), d_o_dtype, d, dim - d));
            }
        for (int32_t d = 0; d < dim; d++)
            for (int32_t i = 0; i < CHAINS; i++)
                sum[i] = fmaf(b[i][d], a[i][d], sum[i]);
        for (int32_t i = 0; i < rows; i++)
            delta[r + i] = alpha * sum[i];
    }
}

#endif

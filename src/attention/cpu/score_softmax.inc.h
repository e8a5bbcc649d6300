/* SPDX-License-Identifier: Apache-2.0 */
/* From products of block means to probabilities, in the vocabulary of simd_*.h, included before. */
#ifndef NABLA_SCORE_SOFTMAX_INC_H
#define NABLA_SCORE_SOFTMAX_INC_H

#include <float.h>
#include <math.h>

#include "inline.h"

/* -inf in place of what is not allowed (NULL: all is), and past n up to a whole vector. */
static inline void close_scores(float *x, int32_t n, const uint64_t *allowed) {
    const vf never = v_set1(-INFINITY);
    for (int32_t j = allowed ? 0 : n / VL * VL; j < n; j += VL) {
        const uint32_t inside = n - j < VL ? (1u << (n - j)) - 1u : UINT32_MAX;
        const uint32_t open = inside & (allowed ? (uint32_t)(allowed[j / 64] >> j % 64) : UINT32_MAX);
        v_store(x + j, v_pick(open, v_load(x + j), never));
    }
}

/* A row of scores, in log2 units and whole vectors, to probabilities. Several vectors at a time: a maximum or a sum
   takes four cycles to come back. */
static inline void score_softmax(float *x, int32_t n) {
    enum { CHAINS = 4, STEP = CHAINS * VL };
    vf top[CHAINS], sum[CHAINS];
    int32_t j = 0;
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

/* Rows of scaled products, in log2 units, to probabilities; see NABLA_DECL_SCORE_ROWS. */
static void scores_to_probs(float *probs, int64_t stride, int32_t rows, int32_t n, const uint64_t *allowed,
                            int64_t allowed_words) {
    for (int32_t i = 0; i < rows; i++, probs += stride) {
        close_scores(probs, n, allowed ? allowed + i * allowed_words : NULL);
        score_softmax(probs, n);
    }
}

#endif

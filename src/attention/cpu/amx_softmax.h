/* SPDX-License-Identifier: Apache-2.0 */
/* P = exp2(scale S - m) in bf16 of a strip of queries by 64 keys, for the forward kernel in tiles, and the sums by
   lane. P lies as rows (see amx.h). */
#ifndef NABLA_AMX_SOFTMAX_H
#define NABLA_AMX_SOFTMAX_H

#include "amx_products.h"

#include <stdbool.h>

/* Tells that m must move: the largest sum of four probabilities. It may pass 2^8 when a score is more than 6 above m
   (in log2 units). */
#define MOST_OF_FOUR 256.0f
#define MOVE_ABOVE 6.0f

/* 2^x within 1.1e-6 of itself, 2^0 exactly; -inf gives 0. Of x's fraction a cubic, squared, plus a constant: one
   operation less than v_exp2's degree 5, which is within 2e-7, and P is what a pair at D = 64 waits for most. A plain
   polynomial of as many operations, degree 4, is within 2.6e-6 and misses LSE's contract, of which this takes half. */
ALWAYS_INLINE vf probability(vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf c = v_fma(v_set1(1.078303691e-02f), r, v_set1(4.451461571e-02f));
    c = v_fma(c, r, v_set1(4.055408771e-01f));
    c = v_fma(c, r, v_set1(8.545575296e-01f));
    return _mm512_scalef_ps(v_fma(c, c, v_set1(2.697314286e-01f)), x);
}

/* A strip on its way, in registers. */
typedef struct softmax {
    const float *s;     /* [4] tiles */
    char *p;            /* [2] tiles */
    const float *below; /* -m */
    float (*sums)[VL];
    float (*before)[VL]; /* takes the sums as they were */
    vf scale, top;
    int64_t row;
} softmax;

/* One query by 64 keys. */
ALWAYS_INLINE void softmax_row(softmax *x) {
    const int64_t r = x->row++;
    const float *s = x->s + r * VL;
    char *p = x->p + r * 64;
    const vf below = v_set1(x->below[r]), sum = v_load(x->sums[r]);
    vf e[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        e[i] = probability(v_fma(v_load(s + i * TILE_FLOATS), x->scale, below));
    _mm512_store_si512(p, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
    _mm512_store_si512(p + TILE, (__m512i)_mm512_cvtne2ps_pbh(e[3], e[2]));
    const vf four = v_add(v_add(e[0], e[1]), v_add(e[2], e[3]));
    x->top = v_max(four, x->top);
    v_store(x->before[r], sum);
    v_store(x->sums[r], v_add(sum, four));
}

ALWAYS_INLINE void softmax_rows(const int rows, softmax *x) {
    UNROLLED
    for (int i = 0; i < rows; i++)
        softmax_row(x);
}

/* Those that are left. */
ALWAYS_INLINE void softmax_rest(softmax *x) {
    while (x->row < STRIP)
        softmax_row(x);
}

static inline bool passed(const softmax *x) {
    return v_above(x->top, v_set1(MOST_OF_FOUR));
}

#endif

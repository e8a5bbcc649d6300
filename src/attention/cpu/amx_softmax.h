/* SPDX-License-Identifier: Apache-2.0 */
/* P = exp2(scale S - m) of a row of 64 keys in bf16, for the forward kernel in tiles, and the sums by lane. P lies as
   rows (see amx.h). */
#ifndef NABLA_AMX_SOFTMAX_H
#define NABLA_AMX_SOFTMAX_H

#include "amx.h"
#include "inline.h"

#include <stdbool.h>

/* Tells that m must move: the largest sum of four probabilities. It may pass 2^8 when a score is more than 6 above m
   (in log2 units). */
#define MOST_OF_FOUR 256.0f
#define MOVE_ABOVE 6.0f

/* What a run of rows needs in registers. */
typedef struct softmax {
    const float *s;     /* [row tiles][4] tiles */
    char *p;            /* [row tiles][2] tiles */
    const float *below; /* -m */
    const float (*before)[VL];
    float (*after)[VL]; /* sums */
    vf scale, top;
    int64_t row;
} softmax;

/* One query by 64 keys. */
ALWAYS_INLINE void softmax_row(softmax *x) {
    const int64_t r = x->row++,
                  above = (r & ~INT64_C(15)) * 64; /* bytes: rows of one column of tiles before its own tile */
    const float *s = x->s + (r * 64 + 3 * above) / 4;
    char *p = x->p + r * 64 + above;
    const vf below = v_set1(x->below[r]);
    vf e[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        e[i] = v_exp2(v_fma(v_load(s + i * TILE_FLOATS), x->scale, below));
    _mm512_store_si512(p, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
    _mm512_store_si512(p + TILE, (__m512i)_mm512_cvtne2ps_pbh(e[3], e[2]));
    const vf four = v_add(v_add(e[0], e[1]), v_add(e[2], e[3]));
    x->top = v_max(four, x->top);
    v_store(x->after[r], v_add(v_load(x->before[r]), four));
}

static inline bool passed(const softmax *x) {
    return v_above(x->top, v_set1(MOST_OF_FOUR));
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to make a row of probabilities for amx_parts.c, and what goes between products of tiles:
 *
 *     SOFT_5, SOFT_WORD  the library's two (see src/attention/cpu/amx_softmax.h)
 *     SOFT_3             the first with a polynomial of degree 3: within 7.5e-5
 */
#ifndef BENCH_AMX_FILL_H
#define BENCH_AMX_FILL_H

#include "amx_products.h"
#include "amx_softmax.h"

enum { SOFT_NONE, SOFT_5, SOFT_3, SOFT_WORD };

static inline vf exp2_cubic(vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf p = v_fma(v_set1(7.8024360e-02f), r, v_set1(2.2606731e-01f));
    p = v_fma(p, r, v_set1(6.9583352e-01f));
    p = v_fma(p, r, v_set1(9.9992522e-01f));
    return _mm512_scalef_ps(p, x);
}

ALWAYS_INLINE void cubic_row(softmax *x) {
    const int32_t r = x->row++;
    const float *s = x->s + r / 16 * 4 * TILE_FLOATS + r % 16 * VL;
    char *p = x->p + r / 16 * 2 * TILE + r % 16 * 64;
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    vf e[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        e[i] = exp2_cubic(v_fma(v_load(s + i * TILE_FLOATS), x->scale, v_set1(x->start[r])));
    _mm512_store_si512(p, _mm512_permutexvar_epi64(order, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0])));
    _mm512_store_si512(p + TILE, _mm512_permutexvar_epi64(order, (__m512i)_mm512_cvtne2ps_pbh(e[3], e[2])));
    const vf four = v_add(v_add(e[0], e[1]), v_add(e[2], e[3]));
    x->top = v_max(four, x->top);
    v_store(x->after[r], v_add(v_load(x->before[r]), four));
}

ALWAYS_INLINE void make_row(const int soft, softmax *x) {
    if (soft == SOFT_3)
        cubic_row(x);
    else
        softmax_row(soft == SOFT_WORD, x);
}

/* A softmax and what to fetch meanwhile. */
typedef struct softmax_run {
    softmax x;
    const char *ahead;
} softmax_run;

ALWAYS_INLINE void fill_rows(const int soft, const int rows, const int lines, softmax_run *run) {
    UNROLLED
    for (int i = 0; soft && i < rows; i++)
        make_row(soft, &run->x);
    if (!lines) return;
    UNROLLED
    for (int i = 0; i < lines; i++)
        _mm_prefetch(run->ahead + i * 64, _MM_HINT_T0);
    run->ahead += lines * 64;
}

#endif

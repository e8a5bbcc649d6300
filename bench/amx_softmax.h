/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to make a row of probabilities, 64 keys, of a row of scores for amx_parts.c: P = exp2(scale S - m) in bf16, its
 * sum by lane, and a running maximum that tells when m has fallen too far behind.
 *
 *     SOFT_5, SOFT_3  in fp32, a polynomial of that degree; the sum is of what was not rounded yet
 *     SOFT_WORD       in fixed point, 8 bits of exponent and 8 of fraction: such a number is nearly the bf16 of its
 *                     power already (Schraudolph), and a table of 64 bytes says what its mantissa is off by. Half the
 *                     vectors, a third of the work of SOFT_5; P is within 0.9 units in the last place instead of
 *                     0.5, and the sum is of the rounded P, so LSE is good to about 1e-3 only. Keys come in the order
 *                     of word_key.
 */
#ifndef BENCH_AMX_SOFTMAX_H
#define BENCH_AMX_SOFTMAX_H

#include "amx_products.h"

#include <math.h>

enum { SOFT_NONE, SOFT_5, SOFT_3, SOFT_WORD };
enum { WORD_ONE = 256 /* an exponent's step */, WORD_BIAS = 127 };
#define WORD_ORIGIN 8388608.0f /* 2^23: from here to its double, a float's last bit counts 1 */

/* The place among 32 keys of element i of a row that SOFT_WORD packs. */
static inline int32_t word_key(int32_t i) {
    return i / 8 * 4 + i % 4 + i % 8 / 4 * 16;
}

typedef struct softmax_run {
    const char *s;      /* [row tiles][4] tiles of floats */
    char *p;            /* [row tiles][2] tiles of bf16 */
    const float *start; /* a float a row, which is added to the scaled score: -m, or what SOFT_WORD makes of it */
    float (*sums)[VL];
    vf scale, top;
    __m512i word_top, table;
    int32_t row;
    const char *ahead; /* what to fetch meanwhile; NULL for nothing */
} softmax_run;

static inline vf exp2_cubic(vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf p = v_fma(v_set1(7.8024360e-02f), r, v_set1(2.2606731e-01f));
    p = v_fma(p, r, v_set1(6.9583352e-01f));
    p = v_fma(p, r, v_set1(9.9992522e-01f));
    return _mm512_scalef_ps(p, x);
}

/* What 64 bytes hold: how far below the line 2 f the mantissa of 2^f lies, in halves of bf16's last place, in the
   middle of each 64th of [0, 1). */
static inline void make_word_table(uint8_t off[64]) {
    for (int i = 0; i < 64; i++) {
        const double f = (4.0 * i + 0.5) / 256; /* of the four numbers that share it, less the 1 added for rounding */
        off[i] = (uint8_t)(256 * (1 + f - exp2(f)) + 0.5);
    }
}

static inline float word_start(float m) {
    return WORD_ORIGIN + WORD_ONE * (WORD_BIAS - m) + 1; /* 1: half of the last place, so that halving rounds */
}

/* The words of 2 x 16 scores. Below the least exponent is 0; NaN, infinity and 2^128 are NaN. */
ALWAYS_INLINE __m512i word_exp2(const softmax_run *x, vf start, const float *a, const float *b) {
    const vf origin = v_set1(WORD_ORIGIN);
    const __m512i bits = (__m512i)origin;
    const __m512i low = _mm512_sub_epi32((__m512i)v_max(origin, v_fma(v_load(a), x->scale, start)), bits);
    const __m512i high = _mm512_sub_epi32((__m512i)v_max(origin, v_fma(v_load(b), x->scale, start)), bits);
    const __m512i word = _mm512_packus_epi32(low, high);
    const __m512i from = _mm512_set1_epi64(2 | 18 << 16 | (int64_t)34 << 32 | (int64_t)50 << 48);
    const __m512i f = _mm512_multishift_epi64_epi8(from, word);
    const __m512i off = _mm512_maskz_permutexvar_epi8(0x5555555555555555, f, x->table);
    return _mm512_srli_epi16(_mm512_subs_epu16(word, off), 1);
}

ALWAYS_INLINE void softmax_row(const int soft, softmax_run *x) {
    const int32_t r = x->row++;
    const float *s = (const float *)(x->s + r / 16 * 4 * TILE + r % 16 * 64);
    char *p = x->p + r / 16 * 2 * TILE + r % 16 * 64;
    const vf start = v_set1(x->start[r]);
    vf sum = v_load(x->sums[r]);
    if (soft == SOFT_WORD) {
        const __m512i a = word_exp2(x, start, s, s + TILE_FLOATS);
        const __m512i b = word_exp2(x, start, s + 2 * TILE_FLOATS, s + 3 * TILE_FLOATS);
        const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
        _mm512_store_si512(p, a);
        _mm512_store_si512(p + TILE, b);
        x->word_top = _mm512_max_epu16(x->word_top, _mm512_max_epu16(a, b));
        sum = _mm512_dpbf16_ps(_mm512_dpbf16_ps(sum, (__m512bh)a, ones), (__m512bh)b, ones);
    } else {
        vf e[4];
        UNROLLED
        for (int i = 0; i < 4; i++) {
            const vf y = v_fma(v_load(s + i * TILE_FLOATS), x->scale, start);
            e[i] = soft == SOFT_5 ? v_exp2(y) : exp2_cubic(y);
        }
        _mm512_store_si512(p, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
        _mm512_store_si512(p + TILE, (__m512i)_mm512_cvtne2ps_pbh(e[3], e[2]));
        const vf four = v_add(v_add(e[0], e[1]), v_add(e[2], e[3]));
        x->top = v_max(four, x->top);
        sum = v_add(sum, four);
    }
    v_store(x->sums[r], sum);
}

ALWAYS_INLINE void fill_rows(const int soft, const int rows, const int lines, softmax_run *x) {
    UNROLLED
    for (int i = 0; soft && i < rows; i++)
        softmax_row(soft, x);
    if (!lines) return;
    UNROLLED
    for (int i = 0; i < lines; i++)
        _mm_prefetch(x->ahead + i * 64, _MM_HINT_T0);
    x->ahead += lines * 64;
}

#endif

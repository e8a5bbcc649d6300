/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P = exp2(scale S - m) of a row of 64 keys in bf16, for the forward kernel in tiles, and the sums by lane. P lies in
 * the order of `values` (see amx.h).
 *
 * Where LSE is wanted, in fp32. Where it is not, P's own precision is enough, and 16-bit integers give it at a third of
 * the work, which on these cores costs as much as the products of tiles: a number in fixed point with 8 bits of
 * exponent and 8 of fraction is nearly the bf16 of its power already, and a table says by how much the mantissa is less
 * than the fraction (Schraudolph 1999, corrected). P is then within 0.9 units in its last place where rounding alone is
 * within 0.5; its sum, of the same numbers, is good to about 1e-3.
 */
#ifndef NABLA_AMX_SOFTMAX_H
#define NABLA_AMX_SOFTMAX_H

#include "amx.h"
#include "inline.h"

#include <stdbool.h>

/* Tells that m must move: the largest sum of four probabilities, or in words the bf16 of the largest probability. Each
   may pass 2^8 when a score is more than 6 above m (in log2 units). */
#define MOST_OF_FOUR 256.0f
#define MOVE_ABOVE 6.0f
enum { MOST_WORD = 0x4380 /* 256 */ };

#define WORD_ORIGIN 8388608.0f /* 2^23: from here to its double a float's last bit counts 1 */
enum { WORD_ONE = 256, WORD_BIAS = 127 };
/* Below it, in magnitude, m is kept a multiple of 1 / WORD_ONE, so that nothing of it is lost in words. */
#define MOST_WORD_REFERENCE 32768.0f

/* What a run of rows needs in registers. */
typedef struct softmax {
    const float *s;     /* [row tiles][4] tiles */
    char *p;            /* rows: [row tiles][2] tiles */
    const float *start; /* a row's share of exp2's argument: -m, or in words word_start(-m) */
    const float (*before)[VL];
    float (*after)[VL]; /* sums */
    vf scale, top;
    __m512i word_top;
    int32_t row;
} softmax;

static inline float word_start(float below) {
    return WORD_ORIGIN + WORD_ONE * (WORD_BIAS + below) + 1; /* 1: half of the last place, so that halving rounds */
}

/* Words of 2 x 16 scores, or 0 below the least exponent; NaN for NaN and from 2^128 on. */
ALWAYS_INLINE __m512i word_exp2(const softmax *x, vf start, const float *a, const float *b) {
    /* 256 (1 + f - 2^f) in the middle of each 64th of f */
    static const uint8_t off[64] = {0,  1,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 13, 14, 15,
                                    16, 16, 17, 18, 18, 19, 19, 20, 20, 20, 21, 21, 21, 22, 22, 22,
                                    22, 22, 22, 22, 22, 22, 22, 21, 21, 21, 21, 20, 20, 19, 19, 18,
                                    17, 17, 16, 15, 14, 13, 12, 11, 10, 9,  8,  7,  6,  4,  3,  1};
    const vf origin = v_set1(WORD_ORIGIN), scale = x->scale;
    const vf low = v_max(origin, v_fma(v_load(a), scale, start)), high = v_max(origin, v_fma(v_load(b), scale, start));
    const __m512i word = _mm512_packus_epi32(_mm512_sub_epi32((__m512i)low, (__m512i)origin),
                                             _mm512_sub_epi32((__m512i)high, (__m512i)origin));
    /* bits 2 to 7 of each word, as an index in its lower byte */
    const __m512i at = _mm512_set1_epi64(2 | 18 << 16 | (int64_t)34 << 32 | (int64_t)50 << 48);
    const __m512i f = _mm512_multishift_epi64_epi8(at, word);
    const __m512i less = _mm512_maskz_permutexvar_epi8(0x5555555555555555, f, _mm512_loadu_si512(off));
    return _mm512_srli_epi16(_mm512_subs_epu16(word, less), 1);
}

/* One query by 64 keys. */
ALWAYS_INLINE void softmax_row(const bool words, softmax *x) {
    const int32_t r = x->row++;
    const float *s = x->s + (r / 16 * 4) * TILE_FLOATS + r % 16 * VL;
    char *p = x->p + r / 16 * 2 * TILE + r % 16 * 64;
    const vf start = v_set1(x->start[r]);
    vf sum = v_load(x->before[r]);
    if (words) {
        const __m512i a = word_exp2(x, start, s, s + TILE_FLOATS);
        const __m512i b = word_exp2(x, start, s + 2 * TILE_FLOATS, s + 3 * TILE_FLOATS);
        const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
        _mm512_store_si512(p, a);
        _mm512_store_si512(p + TILE, b);
        x->word_top = _mm512_max_epu16(x->word_top, _mm512_max_epu16(a, b));
        sum = _mm512_dpbf16_ps(_mm512_dpbf16_ps(sum, (__m512bh)a, ones), (__m512bh)b, ones);
    } else {
        const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
        vf e[4];
        UNROLLED
        for (int i = 0; i < 4; i++)
            e[i] = v_exp2(v_fma(v_load(s + i * TILE_FLOATS), x->scale, start));
        _mm512_store_si512(p, _mm512_permutexvar_epi64(order, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0])));
        _mm512_store_si512(p + TILE, _mm512_permutexvar_epi64(order, (__m512i)_mm512_cvtne2ps_pbh(e[3], e[2])));
        const vf four = v_add(v_add(e[0], e[1]), v_add(e[2], e[3]));
        x->top = v_max(four, x->top);
        sum = v_add(sum, four);
    }
    v_store(x->after[r], sum);
}

static inline bool passed(const softmax *x) {
    return v_above(x->top, v_set1(MOST_OF_FOUR)) || _mm512_cmpgt_epu16_mask(x->word_top, _mm512_set1_epi16(MOST_WORD));
}

#endif

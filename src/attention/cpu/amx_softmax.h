/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P = exp2(scale S - m) in bf16 of 32 queries by 64 keys, for the forward kernel in tiles, and the sums by lane. S lies
 * as [4 of keys][2 of queries] tiles, P as [2][2] in the place of S's first half, each row where its query's was: with
 * a place of its own the first-level cache would not hold all that a step needs, and a pair took 8 % longer.
 *
 * While the matrix unit works, one port of two is left for multiplications, and both for sums and shuffles: of the
 * former there are 7 for 16 probabilities, which the products of a pair at D = 128 can just hide. So the rounding to
 * bf16 is made of the latter, where the instruction for it would take two more a pair of vectors: half is added, and
 * the upper halves of two vectors are put together, word by word. So keys t and t + 16 lie side by side (see
 * amx_pack_tokens).
 */
#ifndef NABLA_AMX_SOFTMAX_H
#define NABLA_AMX_SOFTMAX_H

#include "amx.h"
#include "inline.h"

enum {
    HALF = PANEL / 2,
    HALVES = 2,
    TILES_BY_KEY = 2 * TILE /* bytes from one tile of keys to the next, of S and of P */
};

/* A row's m must move if a sum of four of its probabilities is above this, which only happens where a score is more
   than 18 above m (in log2 units). Near tokens attend to each other: where these moved m each time, at 6 above, a pair
   took 5 to 9 % longer. Still further above, probabilities would lose more than a bit, and large V overflow. */
#define MOST_OF_FOUR 0x1p20f

/* A vector that stays in its register: left alone, a compiler makes constants anew for every row, on the ports that are
   short. */
ALWAYS_INLINE vf kept(float x) {
    vf y = v_set1(x);
    __asm__("" : "+v"(y));
    return y;
}
ALWAYS_INLINE tile_row kept_words(tile_row x) {
    __asm__("" : "+v"(x));
    return x;
}

typedef struct softmax_constants {
    vf scale, cubic[4], last, most;
    tile_row half, upper, down;
} softmax_constants;

/* scale: in log2 units. */
ALWAYS_INLINE softmax_constants softmax_constants_of(float scale) {
    const __m128i down = _mm_set_epi8(-1, -1, 15, 14, -1, -1, 11, 10, -1, -1, 7, 6, -1, -1, 3, 2);
    return (softmax_constants){
        .scale = kept(scale),
        .cubic = {kept(8.545575296e-01f), kept(4.055408771e-01f), kept(4.451461571e-02f), kept(1.078303691e-02f)},
        .last = kept(2.697314286e-01f),
        .most = kept(MOST_OF_FOUR),
        .half = kept_words(_mm512_set1_epi32(0x8000)),
        .upper = kept_words(_mm512_set1_epi32((int)0xffff0000u)),
        .down = kept_words(_mm512_broadcast_i32x4(down))};
}

/* 2^x within 1.1e-6 of itself, 2^0 exactly; -inf gives 0. Of x's fraction a cubic, squared, plus a constant: one
   operation less than v_exp2's degree 5, which is within 2e-7. A plain polynomial of as many operations, degree 4, is
   within 2.6e-6, more than LSE's error may be (check_attention); this takes half of that. */
ALWAYS_INLINE vf probability(const softmax_constants *k, vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf c = v_fma(k->cubic[3], r, k->cubic[2]);
    c = v_fma(c, r, k->cubic[1]);
    c = v_fma(c, r, k->cubic[0]);
    return _mm512_scalef_ps(v_fma(c, c, k->last), x);
}

/* Of each word a bf16 of `low`, then one of `high`; halves are rounded up. NaN may be lost. */
ALWAYS_INLINE tile_row round_pairs(const softmax_constants *k, vf low, vf high) {
    const tile_row l = _mm512_add_epi32((tile_row)low, k->half), h = _mm512_add_epi32((tile_row)high, k->half);
    /* h & upper | l moved down */
    return _mm512_ternarylogic_epi32(h, k->upper, _mm512_shuffle_epi8(l, k->down), 0xea);
}

/* S of 32 queries by a panel; then P. */
typedef struct score_terms {
    _Alignas(64) char tiles[4][TILES_BY_KEY];
} score_terms;

/* Of 32 queries. */
typedef struct statistics {
    _Alignas(64) float sums[HALF][VL]; /* of probabilities, by lane */
    float below[HALF];                 /* -m */
} statistics;

/* On its way, in registers. */
typedef struct softmax {
    softmax_constants constants;
    char *terms, *sums; /* of score_terms and statistics what is the next row's */
    const float *below;
    uint32_t passed; /* a bit a row: one whose m must move; it is S still, and not in its sums */
    int32_t left;    /* rows */
} softmax;

/* Of a row's scores, by 16 keys. */
ALWAYS_INLINE float *scores_row(char *terms, int32_t key) {
    return (float *)(void *)(terms + key * TILES_BY_KEY);
}

/* From a row of the pair on. */
ALWAYS_INLINE softmax softmax_from(int32_t row, softmax_constants constants, score_terms *terms, statistics *of) {
    return (softmax){.constants = constants,
                     .terms = (char *)terms + row * 64,
                     .sums = (char *)of->sums[row],
                     .below = of->below + row,
                     .left = HALF - row};
}

/* One query by 64 keys. */
ALWAYS_INLINE void softmax_row(softmax *x) {
    char *terms = x->terms;
    float *sums = (float *)(void *)x->sums;
    const vf below = v_set1(*x->below);
    vf e[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        e[i] = probability(&x->constants, v_fma(v_load(scores_row(terms, i)), x->constants.scale, below));
    const vf four = v_add(v_add(e[0], e[1]), v_add(e[2], e[3]));
    if (__builtin_expect(v_above(four, x->constants.most) != 0, 0))
        x->passed |= 1u << (HALF - x->left);
    else {
        _mm512_store_si512(terms, round_pairs(&x->constants, e[0], e[1]));
        _mm512_store_si512(terms + TILES_BY_KEY, round_pairs(&x->constants, e[2], e[3]));
        v_store(sums, v_add(v_load(sums), four));
    }
    x->terms += 64;
    x->sums += 64;
    x->below++;
    x->left--;
}

/* If there are any left. */
ALWAYS_INLINE void softmax_rows(const int rows, softmax *x) {
    if (!x->left) return;
    UNROLLED
    for (int i = 0; i < rows; i++)
        softmax_row(x);
}

ALWAYS_INLINE void softmax_rest(softmax *x) {
    while (x->left)
        softmax_row(x);
}

#endif

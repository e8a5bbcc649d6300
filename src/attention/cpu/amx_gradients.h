/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P and dS of some pairs of panels, for the backward kernel in tiles: a strip of 16 queries by half a panel of keys at
 * a time, S and dP of one strip while P and dS of the strip before are made between their products. Halves come one
 * after the other, so that those of K and V stay in the first-level cache while strips of Q and dO pass by it (the T1
 * hint, see amx_tiles.h): where these go into it a pair takes 7 % longer. Squares of 2 x 2 tiles of S and dP load less,
 * but took 2 to 4 % more a pair.
 *
 * Sums over queries take P and dS as tokens, pairs of queries interleaved. Two queries' rows, rounded anyway for dQ's
 * sum, are interleaved by one instruction for 16 keys, which works within quarters of a register: keys lie in tiles of
 * tokens as key_in_tokens says.
 */
#ifndef NABLA_AMX_GRADIENTS_H
#define NABLA_AMX_GRADIENTS_H

#include "amx.h"
#include "amx_tiles.h"
#include "inline.h"

#include <stdbool.h>

enum { KEY_HALF = PANEL / 2, KEY_HALVES = 2 }; /* of a panel of keys */
enum { STRIP = 16, STRIPS = PANEL / STRIP };   /* of queries: rows of a tile */

/* Which of a half's keys lies in a column of the half's tile 0 or 1 of tokens. */
static inline int32_t key_in_tokens(int32_t tile, int32_t column) {
    return column / 4 * 8 + tile * 4 + column % 4;
}

/* A pair of panels. */
typedef struct pair_terms {
    const char *q, *d_o;                  /* rows */
    const char *k, *v;                    /* dims */
    const float *minus_lse, *minus_delta; /* of the queries; in log2 units */
    uint16_t *ds_rows;                    /* rows [4][2] */
    uint16_t *p_tokens, *ds_tokens;       /* tokens [4][2] */
    int32_t keys;
} pair_terms;

/* Of a strip by half a panel of keys. */
typedef struct half_scores {
    _Alignas(64) float s[2][TILE_FLOATS], dp[2][TILE_FLOATS];
} half_scores;

typedef struct gradients_job {
    half_scores *scores; /* [2]: of this strip and the next */
    float scale_log2, alpha;
    pair_terms *pairs;
    int32_t count;
} gradients_job;

/* 2^x = 2^floor(x) p(x - floor(x)) where a bit is set, else 0; p, with p(0) = 1, is within 8.6e-5 (relative): P and dS
   are rounded to 8 bits. -inf gives 0; NaN stays. */
static inline vf exp2_of(uint32_t bits, vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf p = v_fma(v_set1(7.706708310e-02f), r, v_set1(2.276449485e-01f));
    p = v_fma(p, r, v_set1(6.951167960e-01f));
    p = v_fma(p, r, v_set1(1.0f));
    return _mm512_maskz_scalef_ps((__mmask16)bits, p, x);
}

/* P and dS of a strip on their way from its S and dP, unit by unit: of two queries. Never given to a call, so that it
   lies in registers: in memory it would be read again after every tile instruction. */
typedef struct gradients {
    const float *scores; /* half_scores, from the next query on */
    const float *minus_lse, *minus_delta;
    uint16_t *ds_rows, *p_tokens, *ds_tokens;
    vf scale_log2, alpha;
    uint32_t keys[2]; /* a bit a key */
    int32_t left;     /* units */
} gradients;

enum { UNITS = STRIP / 2 };

/* Where a strip's first two queries lie in tokens, by half a panel of keys. */
static inline int32_t tokens_at(int32_t strip, int32_t half) {
    return half * 2 * TILE + strip / 2 * (TILE / 2) + strip % 2 * (TILE / 4);
}

/* i: the strip's number among those of all pairs. */
static inline gradients gradients_of(const gradients_job *job, int32_t i, int32_t half) {
    const pair_terms *x = job->pairs + i / STRIPS;
    const int32_t strip = i % STRIPS;
    const int32_t tokens = tokens_at(strip, half);
    const int32_t keys = x->keys - half * KEY_HALF;
    return (gradients){.scores = job->scores[i % 2].s[0],
                       .minus_lse = x->minus_lse + strip * STRIP,
                       .minus_delta = x->minus_delta + strip * STRIP,
                       .ds_rows = x->ds_rows + strip * TILE + half * (TILE / 2),
                       .p_tokens = x->p_tokens + tokens,
                       .ds_tokens = x->ds_tokens + tokens,
                       .scale_log2 = v_set1(job->scale_log2),
                       .alpha = v_set1(job->alpha),
                       .keys = {first_lanes(keys > 0 ? keys : 0), first_lanes(keys > VL ? keys - VL : 0)},
                       .left = UNITS};
}

ALWAYS_INLINE void store_pairs(uint16_t *to, tile_row even, tile_row odd) {
    _mm512_store_si512(to, _mm512_unpacklo_epi16(even, odd));
    _mm512_store_si512(to + TILE, _mm512_unpackhi_epi16(even, odd));
}

/* tokens: also what dV and dK take. */
ALWAYS_INLINE void gradient_unit(const bool tokens, gradients *g) {
    tile_row p_rows[2], ds_rows[2];
    UNROLLED
    for (int i = 0; i < 2; i++) {
        const vf lse = v_set1(g->minus_lse[i]), delta = v_set1(g->minus_delta[i]);
        vf p[2], ds[2];
        UNROLLED
        for (int j = 0; j < 2; j++) {
            const float *s = g->scores + j * TILE_FLOATS + i * VL, *dp = s + 2 * TILE_FLOATS;
            p[j] = exp2_of(g->keys[j], v_fma(v_load(s), g->scale_log2, lse));
            ds[j] = v_mul(p[j], v_fma(v_load(dp), g->alpha, delta));
        }
        p_rows[i] = (tile_row)_mm512_cvtne2ps_pbh(p[1], p[0]);
        ds_rows[i] = (tile_row)_mm512_cvtne2ps_pbh(ds[1], ds[0]);
        _mm512_store_si512(g->ds_rows + i * 32, ds_rows[i]);
    }
    if (tokens) {
        store_pairs(g->p_tokens, p_rows[0], p_rows[1]);
        store_pairs(g->ds_tokens, ds_rows[0], ds_rows[1]);
    }
    g->scores += 2 * VL;
    g->minus_lse += 2;
    g->minus_delta += 2;
    g->ds_rows += 2 * 32;
    g->p_tokens += 2 * VL;
    g->ds_tokens += 2 * VL;
    g->left--;
}

/* P and dS = 0 of queries without probabilities, a bit each: where keys are infinite they have become NaN. */
static inline void clear_rows(const bool tokens, const pair_terms *x, uint64_t none) {
    const tile_row zero = _mm512_setzero_si512();
    for (; none; none &= none - 1) {
        const int32_t row = __builtin_ctzll(none), strip = row / STRIP, unit = row % STRIP / 2;
        const __mmask32 words = row % 2 ? 0xaaaaaaaa : 0x55555555;
        for (int32_t half = 0; half < KEY_HALVES; half++) {
            _mm512_store_si512(x->ds_rows + strip * TILE + half * (TILE / 2) + row % STRIP * 32, zero);
            for (int32_t tile = 0; tokens && tile < 2; tile++) {
                const int32_t at = tokens_at(strip, half) + tile * TILE + unit * 2 * VL;
                _mm512_mask_storeu_epi16(x->p_tokens + at, words, zero);
                _mm512_mask_storeu_epi16(x->ds_tokens + at, words, zero);
            }
        }
    }
}

ALWAYS_INLINE void some_units(const int units, const bool tokens, gradients *g) {
    if (!g->left) return;
    UNROLLED
    for (int i = 0; i < units; i++)
        gradient_unit(tokens, g);
}

ALWAYS_INLINE void rest_of_units(const bool tokens, gradients *g) {
    while (g->left)
        gradient_unit(tokens, g);
}

/* c0 and c1 = A B over D, a row of tiles by two columns; in the first step the two tiles before go to `last`. `fill`
   comes depth times. Unrolled, the products alone took 3 % longer. */
#define HALF_STRIP(c0, c1, old0, old1, depth, a, b, last, fill)     \
    do {                                                            \
        tile_zero(c0);                                              \
        tile_zero(c1);                                              \
        for (int32_t i_ = 0; i_ < (depth); i_++) {                  \
            tile_load_once(4, (a) + i_ * TILE, 64);                 \
            tile_load(6, (b) + i_ * TILE, 64);                      \
            tile_load(7, (b) + ((depth) + i_) * (int64_t)TILE, 64); \
            tile_dot(c0, 4, 6);                                     \
            tile_dot(c1, 4, 7);                                     \
            if (i_ == 0) {                                          \
                tile_store(old0, last, 64);                         \
                tile_store(old1, (last) + TILE, 64);                \
            }                                                       \
            fill;                                                   \
        }                                                           \
    } while (0)

/* Half a panel of each pair's keys. depth: padded D / 32. units: after every two products; UNITS / (2 depth) makes all
   amid them, which took 4 to 8 % less a pair than none; those that are left come after. P and dS of a strip begin half
   a strip after its last tiles went to memory, as vectors wait there for tiles that were just stored: 1 to 2 % of a
   pair at D = 128. */
ALWAYS_INLINE void half_gradients(const int32_t depth, const int units, const bool tokens, const gradients_job *job,
                                  int32_t half) {
    const int64_t column = (int64_t)half * 2 * depth * TILE;
    char *last = (char *)job->scores[1].dp; /* which nothing has yet */
    gradients g = {.left = 0};
    const int32_t strips = job->count * STRIPS;
    for (int32_t i = 0; i < strips; i++) {
        const pair_terms *x = job->pairs + i / STRIPS;
        const int64_t row = (int64_t)(i % STRIPS) * depth * TILE;
        half_scores *to = job->scores + i % 2;
        HALF_STRIP(0, 1, 2, 3, depth, x->q + row, x->k + column, last, some_units(units, tokens, &g));
        rest_of_units(tokens, &g);
        if (i) g = gradients_of(job, i - 1, half);
        HALF_STRIP(2, 3, 0, 1, depth, x->d_o + row, x->v + column, (char *)to->s, some_units(units, tokens, &g));
        last = (char *)to->dp;
    }
    tile_store(2, last, 64);
    tile_store(3, last + TILE, 64);
    rest_of_units(tokens, &g);
    g = gradients_of(job, strips - 1, half);
    rest_of_units(tokens, &g);
}

#endif

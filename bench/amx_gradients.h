/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rival of the backward kernel in tiles for amx_gradient_parts.c: one panel of keys over panels of queries,
 *
 *     S = Q K^T, dP = dO V^T, P = exp2(scale S - LSE), dS = P (dP - delta),
 *     dV^T += dO^T P, dK^T += Q^T dS (of the panel), dQ += dS K (of each panel of queries)
 *
 * one phase after the other, each of a whole pair.
 */
#ifndef BENCH_AMX_GRADIENTS_H
#define BENCH_AMX_GRADIENTS_H

#include "amx_products.h"

#include <string.h>

/* Panels of queries lie `panel` bytes apart, in each form. */
typedef struct gradients_job {
    const char *q_rows, *o_rows, *q_cols, *o_cols; /* o: of dO */
    const char *k_dims, *v_dims, *k_tokens;
    const float *minus_lse, *minus_delta; /* in log2 units */
    float scale;                          /* in log2 units */
    char *s, *dp;                         /* [4][4] tiles */
    char *p_tokens, *ds_tokens;           /* [4][2] */
    char *ds_rows;                        /* [4][2] */
    char *dk, *dv;                        /* [2 depth][4] */
    char *dq;                             /* panels of [4][2 depth] */
} gradients_job;

ALWAYS_INLINE void store_token_pairs(char *to, vf even, vf odd) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
}

/* Queries `row` and the next one of a panel by 32 keys. */
ALWAYS_INLINE void gradient_rows(const gradients_job *j, int32_t first, int32_t row, int half) {
    const int64_t at = (row / 16 * 4 + 2 * half) * TILE + row % 16 * 64;
    const vf scale = v_set1(j->scale);
    vf p[2][2], ds[2][2];
    UNROLLED
    for (int i = 0; i < 2; i++) {
        const vf lse = v_set1(j->minus_lse[first + row + i]), delta = v_set1(j->minus_delta[first + row + i]);
        UNROLLED
        for (int n = 0; n < 2; n++) {
            const vf x = v_fma(v_load((const float *)(j->s + at + n * TILE + i * 64)), scale, lse);
            p[i][n] = v_exp2(x);
            ds[i][n] = v_mul(p[i][n], v_add(v_load((const float *)(j->dp + at + n * TILE + i * 64)), delta));
        }
        _mm512_store_si512(j->ds_rows + (row / 16 * 2 + half) * TILE + (row % 16 + i) * 64,
                           (__m512i)_mm512_cvtne2ps_pbh(ds[i][1], ds[i][0]));
    }
    const int64_t to = (4 * half + row / 32) * TILE + row % 32 / 2 * 64;
    UNROLLED
    for (int n = 0; n < 2; n++) {
        store_token_pairs(j->p_tokens + to + n * 2 * TILE, p[0][n], p[1][n]);
        store_token_pairs(j->ds_tokens + to + n * 2 * TILE, ds[0][n], ds[1][n]);
    }
}

ALWAYS_INLINE void gradient_panel(const gradients_job *j, int32_t first) {
    for (int32_t row = 0; row < PANEL; row += 2) {
        gradient_rows(j, first, row, 0);
        gradient_rows(j, first, row, 1);
    }
}

/* a rows, b dims, c [4][4] tiles. */
ALWAYS_INLINE void panel_scores(const int depth, const char *a, const char *b, char *c) {
    for (int strip = 0; strip < STRIPS; strip++)
        STRIP_OVER_DIMS(depth, a + (int64_t)strip * depth * TILE, b, c + strip * 4 * TILE, (void)0);
}

ALWAYS_INLINE void walk_gradients(const int depth, int32_t panels, const gradients_job *j) {
    const int64_t panel = (int64_t)4 * depth * TILE;
    memset(j->dk, 0, (size_t)8 * (size_t)depth * TILE);
    memset(j->dv, 0, (size_t)8 * (size_t)depth * TILE);
    for (int32_t i = 0; i < panels; i++) {
        const int64_t at = i * panel;
        panel_scores(depth, j->q_rows + at, j->k_dims, j->s);
        panel_scores(depth, j->o_rows + at, j->v_dims, j->dp);
        gradient_panel(j, i * PANEL);
        const operands dq = {.a = {j->ds_rows},
                             .b = {j->k_tokens},
                             .c = j->dq + 2 * at,
                             .second = (int64_t)2 * depth * TILE,
                             .step = TILE,
                             .stride = 64};
        operands dv = {
            .a = {j->o_cols + at}, .b = {j->p_tokens}, .c = j->dv, .second = 4 * TILE, .step = TILE, .stride = 64};
        ADD_BY_COLUMNS(2 * depth, 1, dq);
        ADD_BY_ROWS(2 * depth, 1, dv);
        dv.a[0] = j->q_cols + at;
        dv.b[0] = j->ds_tokens;
        dv.c = j->dk;
        ADD_BY_ROWS(2 * depth, 1, dv);
    }
}

#endif

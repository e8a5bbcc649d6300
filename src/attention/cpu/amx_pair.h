/* SPDX-License-Identifier: Apache-2.0 */
/* The two products of 32 queries by a panel of keys, in squares of tiles, for the forward kernel. depth: padded D / 32.
   column: of tiles of C, even. */
#ifndef NABLA_AMX_PAIR_H
#define NABLA_AMX_PAIR_H

#include "amx_softmax.h"
#include "amx_squares.h"

/* S = Q K^T. q: rows [2][depth]; k: a panel as dims. */
ALWAYS_INLINE square scores_square(const int32_t depth, const char *q, const char *k, score_terms *x, int32_t column) {
    const int64_t row = (int64_t)depth * TILE;
    return (square){.a = q,
                    .b = k + column * row,
                    .c = x->tiles[column],
                    .a_row = row,
                    .a_step = TILE,
                    .b_column = row,
                    .b_step = TILE,
                    .c_row = TILE,
                    .c_column = TILES_BY_KEY,
                    .fresh = true};
}

/* O += P V, two steps deep. v: a panel as tokens, 16 apart; o: [2][2 depth] tiles. */
ALWAYS_INLINE square output_square(const int32_t depth, const score_terms *x, const char *v, char *o, int32_t column) {
    return (square){.a = x->tiles[0],
                    .b = v + column * 2 * TILE,
                    .c = o + column * TILE,
                    .a_row = TILE,
                    .a_step = TILES_BY_KEY,
                    .b_column = 2 * TILE,
                    .b_step = TILE,
                    .c_row = (int64_t)2 * depth * TILE,
                    .c_column = TILE};
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The products that everything is made of, two tiles of C at a time. Pairs of accumulators take turns, 0 and 1, then 2
 * and 3: the stores of one are issued amid the products of the next.
 */
#ifndef NABLA_AMX_PRODUCTS_H
#define NABLA_AMX_PRODUCTS_H

#include "amx.h"
#include "amx_tiles.h"
#include "inline.h"

enum { STRIP = 16, STRIPS = PANEL / STRIP }; /* rows of a tile */

/* Scores of a strip of queries by a panel of keys. */
typedef struct strip_scores {
    _Alignas(64) float tiles[4][TILE_FLOATS];
} strip_scores;

/* 32 dims of c0 and c1 += A B, a row of tiles by two columns; in the first step the two tiles before go to `last`.
   `fill` is vector work to run in the products' shadow. */
#define STRIP_STEP(i, c0, c1, old0, old1, a, b0, b1, last, fill) \
    do {                                                         \
        tile_load(4, (a) + (i)*TILE, 64);                        \
        tile_load(6, (b0) + (i)*TILE, 64);                       \
        tile_dot(c0, 4, 6);                                      \
        tile_load(7, (b1) + (i)*TILE, 64);                       \
        tile_dot(c1, 4, 7);                                      \
        if ((i) == 0) {                                          \
            tile_store(old0, last, 64);                          \
            tile_store(old1, (last) + TILE, 64);                 \
        }                                                        \
        fill;                                                    \
    } while (0)
#define CARRIED_STEPS(c0, c1, old0, old1, depth, a, b0, b1, last, fill) \
    tile_zero(c0);                                                      \
    tile_zero(c1);                                                      \
    UNROLLED                                                            \
    for (int32_t i_ = 0; i_ < (depth); i_++)                            \
        STRIP_STEP(i_, c0, c1, old0, old1, a, b0, b1, last, fill);
/* C = A B over D, a strip by 64 tokens: a a row of tiles of a panel as rows, b a panel as dims, c strip_scores. The
   last two tiles of C are left in accumulators 2 and 3, to be stored amid the next strip's first products: `carried`
   tells where they go. `fill` comes 2 depth times. */
#define CARRIED_STRIP_OVER_DIMS(depth, a, b, c, carried, fill)                             \
    do {                                                                                   \
        const int64_t column_ = (int64_t)(depth)*TILE;                                     \
        const char *const a_ = (a), *const b_ = (b);                                       \
        char *const c_ = (char *)(c);                                                      \
        CARRIED_STEPS(0, 1, 2, 3, depth, a_, b_, b_ + column_, carried, fill)              \
        CARRIED_STEPS(2, 3, 0, 1, depth, a_, b_ + 2 * column_, b_ + 3 * column_, c_, fill) \
        (carried) = c_ + 2 * TILE;                                                         \
    } while (0)

#endif

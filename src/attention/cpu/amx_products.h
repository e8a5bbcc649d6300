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

/* Where a sum over the tokens of some panels finds what it takes: of each panel A [rows][2] tiles and B [columns][2]
   tiles, and C [rows][columns] tiles, `second` bytes from one row of tiles to the next, `step` from one column to the
   next, `stride` from one row of numbers to the next. */
enum { MOST_SUMMED = 8 };
typedef struct operands {
    const char *a[MOST_SUMMED], *b[MOST_SUMMED];
    char *c;
    int64_t second, step, stride;
} operands;

/* Two rows of tiles by two columns: half the loads of A and B, and nothing to hide C's behind. fresh: C begins with 0.
   k: the half of a panel. */
#define SQUARE_STEP(k)                                \
    do {                                              \
        tile_load(4, from_a_ + (k)*TILE, 64);         \
        tile_load(6, from_b_ + (k)*TILE, 64);         \
        tile_dot(0, 4, 6);                            \
        tile_load(7, from_b_ + (2 + (k)) * TILE, 64); \
        tile_dot(1, 4, 7);                            \
        tile_load(5, from_a_ + (2 + (k)) * TILE, 64); \
        tile_dot(2, 5, 6);                            \
        tile_dot(3, 5, 7);                            \
    } while (0)
#define ADD_BY_SQUARES(columns, panels, fresh, x)                                   \
    do {                                                                            \
        const operands x_ = (x);                                                    \
        for (int32_t at_ = 0; at_ < 2 * (columns); at_ += 2) {                      \
            const int32_t column_ = at_ / 4 * 2, row_ = at_ % 4;                    \
            char *const c_ = x_.c + row_ * x_.second + column_ * x_.step;           \
            char *const below_ = c_ + x_.second;                                    \
            if (fresh) {                                                            \
                tile_zero(0);                                                       \
                tile_zero(1);                                                       \
                tile_zero(2);                                                       \
                tile_zero(3);                                                       \
            } else {                                                                \
                tile_load(0, c_, x_.stride);                                        \
                tile_load(1, c_ + x_.step, x_.stride);                              \
                tile_load(2, below_, x_.stride);                                    \
                tile_load(3, below_ + x_.step, x_.stride);                          \
            }                                                                       \
            for (int32_t i_ = 0; i_ < (panels); i_++) {                             \
                const char *const from_a_ = x_.a[i_] + (int64_t)row_ * 2 * TILE;    \
                const char *const from_b_ = x_.b[i_] + (int64_t)column_ * 2 * TILE; \
                SQUARE_STEP(0);                                                     \
                SQUARE_STEP(1);                                                     \
            }                                                                       \
            tile_store(0, c_, x_.stride);                                           \
            tile_store(1, c_ + x_.step, x_.stride);                                 \
            tile_store(2, below_, x_.stride);                                       \
            tile_store(3, below_ + x_.step, x_.stride);                             \
        }                                                                           \
    } while (0)

#endif

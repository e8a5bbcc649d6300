/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The products that everything is made of, two tile rows of C at a time. Pairs of accumulators take turns, 0 and 1,
 * then 2 and 3: the stores of one are issued amid the products of the next. After every two products of tiles comes
 * `fill`, a statement of vector work to run in their shadow.
 */
#ifndef NABLA_AMX_PRODUCTS_H
#define NABLA_AMX_PRODUCTS_H

#include "amx.h"
#include "amx_tiles.h"
#include "inline.h"

/* c0 and c1 += `steps` products each, number i_ of tiles at a0 and b and at a1 and b. On the way the pair before is
   stored at `last` and `second` bytes on, its rows `stride` bytes apart; last NULL: there is none. */
#define PAIR_STEPS(c0, c1, old0, old1, steps, b, a0, a1, last, second, stride, fill) \
    for (int32_t i_ = 0; i_ < (steps); i_++) {                                       \
        tile_load(6, b, 64);                                                         \
        tile_load(4, a0, 64);                                                        \
        tile_dot(c0, 4, 6);                                                          \
        tile_load(5, a1, 64);                                                        \
        tile_dot(c1, 5, 6);                                                          \
        fill;                                                                        \
        if (i_ == 0 && (last)) {                                                     \
            tile_store(old0, last, stride);                                          \
            tile_store(old1, (last) + (second), stride);                             \
        }                                                                            \
    }

/* C = A B over D, 64 rows by 64 tokens: a a panel as rows, b one as dims, c [4][4] tiles. `fill` comes 8 depth times.
 */
#define SUM_OVER_DIMS(depth, a, b, c, fill)                                                                        \
    do {                                                                                                           \
        const char *const low_ = (a), *const high_ = low_ + 2 * (int64_t)(depth)*TILE, *b_ = (b);                  \
        char *last_ = NULL, *c_ = (char *)(c);                                                                     \
        for (int column_ = 0; column_ < 4; column_++, b_ += (depth)*TILE, c_ += TILE) {                            \
            tile_zero(0);                                                                                          \
            tile_zero(1);                                                                                          \
            PAIR_STEPS(0, 1, 2, 3, depth, b_ + i_ * TILE, low_ + i_ * TILE, low_ + ((depth) + i_) * TILE, last_,   \
                       4 * TILE, 64, fill)                                                                         \
            last_ = c_;                                                                                            \
            tile_zero(2);                                                                                          \
            tile_zero(3);                                                                                          \
            PAIR_STEPS(2, 3, 0, 1, depth, b_ + i_ * TILE, high_ + i_ * TILE, high_ + ((depth) + i_) * TILE, last_, \
                       4 * TILE, 64, fill)                                                                         \
            last_ = c_ + 8 * TILE;                                                                                 \
        }                                                                                                          \
        tile_store(2, last_, 64);                                                                                  \
        tile_store(3, last_ + 4 * TILE, 64);                                                                       \
    } while (0)

/* Where a sum over tokens finds what it takes: of each panel A [rows][2] tiles and B [columns][2] tiles, and C [rows]
   [columns] tiles, `second` bytes from one row of tiles to the next, `step` from one column to the next, `stride` from
   one row of numbers to the next. */
typedef struct operands {
    const char *a, *b;
    int64_t a_panel, b_panel; /* bytes from one panel to the next */
    char *c;
    int64_t second, step, stride;
} operands;

/* Tiles [row, row + 2) of a column. */
#define SOME_SUMS(c0, c1, old0, old1, row, column, panels, fill)                                                    \
    do {                                                                                                            \
        const char *const a_ = x_.a + (int64_t)(row)*2 * TILE, *const b_ = x_.b + (int64_t)(column)*2 * TILE;       \
        char *const to_ = x_.c + (row)*x_.second + (column)*x_.step;                                                \
        tile_load(c0, to_, x_.stride);                                                                              \
        tile_load(c1, to_ + x_.second, x_.stride);                                                                  \
        PAIR_STEPS(c0, c1, old0, old1, 2 * (panels), b_ + i_ / 2 * x_.b_panel + i_ % 2 * TILE,                      \
                   a_ + i_ / 2 * x_.a_panel + i_ % 2 * TILE, a_ + i_ / 2 * x_.a_panel + (2 + i_ % 2) * TILE, last_, \
                   x_.second, x_.stride, fill)                                                                      \
        last_ = to_;                                                                                                \
    } while (0)

/* C += A B over the tokens of `panels` panels, column by column of C, 4 rows of tiles at a time: B is read once. */
#define ADD_BY_COLUMNS(columns, panels, x, fill)                    \
    do {                                                            \
        const operands x_ = (x);                                    \
        char *last_ = NULL;                                         \
        for (int32_t column_ = 0; column_ < (columns); column_++) { \
            SOME_SUMS(0, 1, 2, 3, 0, column_, panels, fill);        \
            SOME_SUMS(2, 3, 0, 1, 2, column_, panels, fill);        \
        }                                                           \
        tile_store(2, last_, x_.stride);                            \
        tile_store(3, last_ + x_.second, x_.stride);                \
    } while (0)

/* The same by rows, 4 columns: A is read once. */
#define ADD_BY_ROWS(rows, panels, x, fill)                 \
    do {                                                   \
        const operands x_ = (x);                           \
        char *last_ = NULL;                                \
        for (int32_t row_ = 0; row_ < (rows); row_ += 2) { \
            SOME_SUMS(0, 1, 2, 3, row_, 0, panels, fill);  \
            SOME_SUMS(2, 3, 0, 1, row_, 1, panels, fill);  \
            SOME_SUMS(0, 1, 2, 3, row_, 2, panels, fill);  \
            SOME_SUMS(2, 3, 0, 1, row_, 3, panels, fill);  \
        }                                                  \
        tile_store(2, last_, x_.stride);                   \
        tile_store(3, last_ + x_.second, x_.stride);       \
    } while (0)

#endif

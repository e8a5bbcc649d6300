/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of 2 x 2 tiles, C = A B or C += A B, for the forward kernel in tiles: four accumulators, and a load for each
 * product. The accumulators of a square go as those of the next come, one by one, so that the matrix unit does not
 * wait; the operands of four products are loaded before them.
 *
 * B streams through: every tile of it is taken once, and then not before all else that the first-level cache holds. Its
 * loads ask not to put it there (the T1 hint), so that all else stays: without, each tile of A and C came from the
 * second level each time, and a pair took a quarter longer.
 */
#ifndef NABLA_AMX_SQUARES_H
#define NABLA_AMX_SQUARES_H

#include "amx.h"
#include "amx_tiles.h"
#include "inline.h"

#include <stdbool.h>

/* Where tiles lie, in bytes: from one row or column of tiles to the next, and from one step of the sum to the next. */
typedef struct square {
    const char *a, *b;
    char *c; /* NULL: no square */
    int64_t a_row, a_step, b_column, b_step, c_row, c_column;
    bool fresh; /* C begins with 0, whatever lies there */
} square;

/* The old square's tile goes, the new one's comes. */
#define TURN_SQUARE(t, row, column)                                                            \
    do {                                                                                       \
        if (old_->c) tile_store(t, old_->c + (row)*old_->c_row + (column)*old_->c_column, 64); \
        if (now_->fresh)                                                                       \
            tile_zero(t);                                                                      \
        else                                                                                   \
            tile_load(t, now_->c + (row)*now_->c_row + (column)*now_->c_column, 64);           \
    } while (0)

/* turn: a square's first step. */
#define SQUARE_STEP(turn, a, b, odd, even)           \
    do {                                             \
        tile_load(4, a, 64);                         \
        tile_load_once(6, b, 64);                    \
        tile_load(5, (a) + now_->a_row, 64);         \
        tile_load_once(7, (b) + now_->b_column, 64); \
        if (turn) TURN_SQUARE(0, 0, 0);              \
        tile_dot(0, 4, 6);                           \
        odd;                                         \
        if (turn) TURN_SQUARE(1, 0, 1);              \
        tile_dot(1, 4, 7);                           \
        even;                                        \
        if (turn) TURN_SQUARE(2, 1, 0);              \
        tile_dot(2, 5, 6);                           \
        odd;                                         \
        if (turn) TURN_SQUARE(3, 1, 1);              \
        tile_dot(3, 5, 7);                           \
        even;                                        \
    } while (0)

/* A square of `steps` tiles of A by as many of B; what was the square before goes. odd, even: vector work for the
   products' shadow, after the first and third, and after the second and fourth of each step; before the latter the old
   square's row of tiles is in memory. */
#define ADD_SQUARE(steps, square_now, square_old, odd, even)                                         \
    do {                                                                                             \
        const square *const now_ = (square_now), *const old_ = (square_old);                         \
        SQUARE_STEP(true, now_->a, now_->b, odd, even);                                              \
        UNROLLED_BY_4                                                                                \
        for (int32_t i_ = 1; i_ < (steps); i_++)                                                     \
            SQUARE_STEP(false, now_->a + i_ * now_->a_step, now_->b + i_ * now_->b_step, odd, even); \
    } while (0)

/* Of a square that no other follows; then there is none. */
static inline void finish_square(square *old) {
    if (!old->c) return;
    tile_store(0, old->c, 64);
    tile_store(1, old->c + old->c_column, 64);
    tile_store(2, old->c + old->c_row, 64);
    tile_store(3, old->c + old->c_row + old->c_column, 64);
    old->c = NULL;
}

#endif

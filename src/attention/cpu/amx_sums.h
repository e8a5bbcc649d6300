/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums over the tokens of some panels, for the backward kernel in tiles: C += A B, a square of 2 x 2 tiles of C at a
 * time, so that a product takes one load and C is loaded once for all panels. The tiles of a square are stored one by
 * one as those of the next one are loaded: all four at once leave the matrix unit idle. The operands of four products
 * are loaded before them.
 *
 * One operand's share of a square is used by several squares in a row and stays in the first-level cache; the other one
 * passes by it (tile_load_once).
 */
#ifndef NABLA_AMX_SUMS_H
#define NABLA_AMX_SUMS_H

#include "amx.h"
#include "amx_tiles.h"
#include "inline.h"

#include <stdbool.h>

enum { MOST_IN_SUM = 8 };

/* Where C lies: `second` bytes from one row of tiles to the next, `step` from one column to the next, `stride` from one
   row of numbers to the next. */
typedef struct sum_tiles {
    char *at;
    int64_t second, step, stride;
} sum_tiles;

/* Of each panel A [rows][2] tiles and B [columns][2] tiles. */
typedef struct token_sum {
    const char *a[MOST_IN_SUM], *b[MOST_IN_SUM];
    int32_t panels;
    bool fresh; /* C begins with 0, whatever lies there */
    sum_tiles c;
} token_sum;

/* Where the tiles of a square lie. */
#define TILE_00(x) ((x).at)
#define TILE_01(x) ((x).at + (x).step)
#define TILE_10(x) ((x).at + (x).second)
#define TILE_11(x) ((x).at + (x).second + (x).step)

/* The old square's tile goes, the new one's comes. */
#define TURN_TILE(t, place)                                \
    do {                                                   \
        if (old.at) tile_store(t, place(old), old.stride); \
        if (x->fresh)                                      \
            tile_zero(t);                                  \
        else                                               \
            tile_load(t, place(now), now.stride);          \
    } while (0)

/* The square's four products of 32 tokens. turn: its first. */
#define SUM_STEP(load_a, load_b, a, b, turn) \
    do {                                     \
        load_a(4, a, 64);                    \
        load_b(6, b, 64);                    \
        load_b(7, (b) + 2 * TILE, 64);       \
        load_a(5, (a) + 2 * TILE, 64);       \
        if (turn) TURN_TILE(0, TILE_00);     \
        tile_dot(0, 4, 6);                   \
        if (turn) TURN_TILE(1, TILE_01);     \
        tile_dot(1, 4, 7);                   \
        if (turn) TURN_TILE(2, TILE_10);     \
        tile_dot(2, 5, 6);                   \
        if (turn) TURN_TILE(3, TILE_11);     \
        tile_dot(3, 5, 7);                   \
    } while (0)

/* The square's products of all panels. */
#define SUM_SQUARE(load_a, load_b)                                                     \
    do {                                                                               \
        SUM_STEP(load_a, load_b, x->a[0] + a, x->b[0] + b, true);                      \
        SUM_STEP(load_a, load_b, x->a[0] + a + TILE, x->b[0] + b + TILE, false);       \
        for (int32_t i_ = 1; i_ < x->panels; i_++) {                                   \
            SUM_STEP(load_a, load_b, x->a[i_] + a, x->b[i_] + b, false);               \
            SUM_STEP(load_a, load_b, x->a[i_] + a + TILE, x->b[i_] + b + TILE, false); \
        }                                                                              \
    } while (0)

/* The square of tiles [row, row + 2) by [column, column + 2), which is then the old one. a_stays: it is A that the next
   squares use again, not B. */
ALWAYS_INLINE sum_tiles add_square(const bool a_stays, const token_sum *x, int32_t row, int32_t column, sum_tiles old) {
    const int64_t a = (int64_t)row * 2 * TILE, b = (int64_t)column * 2 * TILE;
    sum_tiles now = x->c;
    now.at += row * now.second + column * now.step;
    if (a_stays)
        SUM_SQUARE(tile_load, tile_load_once);
    else
        SUM_SQUARE(tile_load_once, tile_load);
    return now;
}

/* Of a square that no other follows; then there is none. */
static inline void store_last_square(sum_tiles *last) {
    const sum_tiles old = *last;
    if (!old.at) return;
    tile_store(0, TILE_00(old), old.stride);
    tile_store(1, TILE_01(old), old.stride);
    tile_store(2, TILE_10(old), old.stride);
    tile_store(3, TILE_11(old), old.stride);
    last->at = NULL;
}

/* rows, columns: even. a_stays: A of two rows stays while B passes, or B of two columns while A does. *last: the square
   before, of another sum perhaps, which is stored amid the first products; it becomes this sum's last. */
ALWAYS_INLINE void add_sum(const bool a_stays, const token_sum *x, int32_t rows, int32_t columns, sum_tiles *last) {
    sum_tiles old = *last;
    for (int32_t i = 0; i < (a_stays ? rows : columns); i += 2)
        for (int32_t j = 0; j < (a_stays ? columns : rows); j += 2)
            old = add_square(a_stays, x, a_stays ? i : j, a_stays ? j : i, old);
    *last = old;
}

#endif

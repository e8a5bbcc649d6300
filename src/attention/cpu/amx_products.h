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

#define NEW_TILES(c0, c1, old0, old1, store_old, fill)    \
    tile_zero(c0);                                        \
    tile_zero(c1);                                        \
    for (int32_t i_ = 0; i_ < depth_; i_++, b_ += TILE) { \
        tile_load(6, b_, 64);                             \
        tile_load(4, a_ + i_ * TILE, 64);                 \
        tile_dot(c0, 4, 6);                               \
        tile_load(5, a_ + (depth_ + i_) * TILE, 64);      \
        tile_dot(c1, 5, 6);                               \
        fill;                                             \
        if (i_ == 0 && (store_old)) {                     \
            tile_store(old0, c_ - TILE, 64);              \
            tile_store(old1, c_ + 3 * TILE, 64);          \
        }                                                 \
    }                                                     \
    c_ += TILE

/* C = A B over D, 32 rows by 64 tokens: a 32 tokens as rows, b a panel as dims, c [2][4] tiles. `fill` comes 4 depth
   times. */
#define SUM_OVER_DIMS(depth, a, b, c, fill)         \
    do {                                            \
        const int32_t depth_ = (depth);             \
        const char *const a_ = (a), *b_ = (b);      \
        char *c_ = (char *)(c);                     \
        for (int pair_ = 0; pair_ < 2; pair_++) {   \
            NEW_TILES(0, 1, 2, 3, pair_ > 0, fill); \
            NEW_TILES(2, 3, 0, 1, 1, fill);         \
        }                                           \
        tile_store(2, c_ - TILE, 64);               \
        tile_store(3, c_ + 3 * TILE, 64);           \
    } while (0)

/* Tiles 4 and 5 hold A of the first 32 tokens. */
#define MORE_TILES(c0, c1, old0, old1, store_old, fill)  \
    tile_load(c0, c_, stride_);                          \
    tile_load(c1, c_ + second_, stride_);                \
    tile_load(6, b_, 64);                                \
    tile_dot(c0, 4, 6);                                  \
    tile_dot(c1, 5, 6);                                  \
    fill;                                                \
    if (store_old) {                                     \
        tile_store(old0, c_ - step_, stride_);           \
        tile_store(old1, c_ + second_ - step_, stride_); \
    }                                                    \
    tile_load(6, b_ + TILE, 64);                         \
    tile_load(7, a_ + TILE, 64);                         \
    tile_dot(c0, 7, 6);                                  \
    tile_load(7, a_ + 3 * TILE, 64);                     \
    tile_dot(c1, 7, 6);                                  \
    fill;                                                \
    b_ += 2 * TILE;                                      \
    c_ += step_

/* C += A B over 64 tokens, 32 rows by 32 * pairs columns: a [2][2] tiles, b [2 * pairs][2] tiles; tiles of C are `step`
   bytes apart in a row and `second` from the first row to the second, their own rows `stride`. `fill` comes 4 pairs
   times. */
#define ADD_OVER_TOKENS(pairs, a, b, c, second, step, stride, fill)           \
    do {                                                                      \
        const char *const a_ = (const char *)(a), *b_ = (const char *)(b);    \
        char *c_ = (char *)(c);                                               \
        const int64_t second_ = (second), step_ = (step), stride_ = (stride); \
        tile_load(4, a_, 64);                                                 \
        tile_load(5, a_ + 2 * TILE, 64);                                      \
        for (int32_t pair_ = 0; pair_ < (pairs); pair_++) {                   \
            MORE_TILES(0, 1, 2, 3, pair_ > 0, fill);                          \
            MORE_TILES(2, 3, 0, 1, 1, fill);                                  \
        }                                                                     \
        tile_store(2, c_ - step_, stride_);                                   \
        tile_store(3, c_ + second_ - step_, stride_);                         \
    } while (0)

/* c0 and c1 += `steps` products each, number i_ of tiles at a0 and b and at a1 and b. On the way the pair before is
   stored at `last` and `second` bytes on; NULL: there is none. */
#define PAIR_STEPS(c0, c1, old0, old1, steps, b, a0, a1, last, second, fill) \
    for (int32_t i_ = 0; i_ < (steps); i_++) {                               \
        tile_load(6, b, 64);                                                 \
        tile_load(4, a0, 64);                                                \
        tile_dot(c0, 4, 6);                                                  \
        tile_load(5, a1, 64);                                                \
        tile_dot(c1, 5, 6);                                                  \
        fill;                                                                \
        if (i_ == 0 && (last)) {                                             \
            tile_store(old0, last, 64);                                      \
            tile_store(old1, (last) + (second), 64);                         \
        }                                                                    \
    }

#endif

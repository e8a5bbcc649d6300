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

#endif

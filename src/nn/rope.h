/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary positions over three axes, as Wan2.1: a head's D dims are D - 4 * (D / 6) for frames, 2 * (D / 6) each for
   rows and columns; pair i of an axis of n dims turns by position * theta^(-2i / n), theta = 10000. */
#ifndef NV_ROPE_H
#define NV_ROPE_H

#include <stdint.h>

/* table[tokens, head_dim]: (cos, sin) a pair, computed in fp64, token i at raster index raster[i] of grid[3]. scale[3]
   multiplies the positions; they need not stay whole. */
void nv_rope_table(float *table, const int32_t grid[3], const int32_t *raster, int32_t head_dim, const float scale[3]);

#endif

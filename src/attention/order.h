/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NABLA_ORDER_H
#define NABLA_ORDER_H

#include "context.h"

/* Tiles along each axis; the last of an axis may be smaller. */
typedef struct nabla_tiles {
    int32_t frames, height, width;
} nabla_tiles;

struct nabla_order {
    const nabla_device_ops *ops; /* of the context that made it */
    nabla_context *home;         /* that context; NULL: none was there, and the order is the CPU's */
    nabla_place place;
    nabla_grid grid;
    nabla_tiles tiles;
    int64_t tokens, blocks;
    int32_t *offsets;    /* [blocks + 1] */
    int32_t *raster;     /* [tokens] */
    int32_t *gpu_raster; /* CUDA: its copy in GPU memory */
};

/* grid.c: refuses sizes below 1 and grids of more than INT32_MAX tokens. */
nabla_status nabla_grid_check(nabla_context *ctx, const nabla_grid *grid);
nabla_tiles nabla_grid_tiles(const nabla_grid *grid);

#endif

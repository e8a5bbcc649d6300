/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"
#include "layout.h"
#include "order.h"

nabla_grid nabla_grid_default(int32_t frames, int32_t height, int32_t width) {
    return (nabla_grid){
        .frames = frames, .height = height, .width = width, .tile_frames = 1, .tile_height = 8, .tile_width = 8};
}

nabla_status nabla_grid_check(nabla_context *ctx, const nabla_grid *grid) {
    if (!grid) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "grid is NULL");
    if (grid->frames < 1 || grid->height < 1 || grid->width < 1)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "grid %dx%dx%d has an empty side; every side needs a token",
                          (int)grid->frames, (int)grid->height, (int)grid->width);
    if (grid->tile_frames < 1 || grid->tile_height < 1 || grid->tile_width < 1)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "tile %dx%dx%d has an empty side; the usual tile is 1x8x8",
                          (int)grid->tile_frames, (int)grid->tile_height, (int)grid->tile_width);
    int64_t tokens = nabla_count_mul(nabla_count_mul(grid->frames, grid->height), grid->width);
    if (tokens < 0 || tokens > INT32_MAX)
        return nabla_fail(ctx, NABLA_OVERFLOW, "grid %dx%dx%d has more than %d tokens", (int)grid->frames,
                          (int)grid->height, (int)grid->width, INT32_MAX);
    return NABLA_OK;
}

nabla_tiles nabla_grid_tiles(const nabla_grid *grid) {
    return (nabla_tiles){.frames = (int32_t)nabla_ceil_div(grid->frames, grid->tile_frames),
                         .height = (int32_t)nabla_ceil_div(grid->height, grid->tile_height),
                         .width = (int32_t)nabla_ceil_div(grid->width, grid->tile_width)};
}

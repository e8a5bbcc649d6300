/* SPDX-License-Identifier: Apache-2.0 */
#include "order.h"
#include "device.h"
#include "tensor.h"

#include <stdlib.h>
#include <string.h>

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* The tokens of the tile whose first token is (f0, h0, w0), row-major; returns how many. */
static int32_t fill_tile(const nabla_grid *g, int32_t f0, int32_t h0, int32_t w0, int32_t *raster) {
    int32_t f1 = f0 + least(g->tile_frames, g->frames - f0);
    int32_t h1 = h0 + least(g->tile_height, g->height - h0);
    int32_t w1 = w0 + least(g->tile_width, g->width - w0);
    int32_t n = 0;
    for (int32_t f = f0; f < f1; f++)
        for (int32_t h = h0; h < h1; h++)
            for (int32_t w = w0; w < w1; w++)
                raster[n++] = (f * g->height + h) * g->width + w;
    return n;
}

static void fill(nabla_order *order) {
    const nabla_grid *g = &order->grid;
    int32_t token = 0, block = 0;
    for (int32_t f = 0; f < order->tiles.frames; f++)
        for (int32_t h = 0; h < order->tiles.height; h++)
            for (int32_t w = 0; w < order->tiles.width; w++) {
                order->offsets[block++] = token;
                token += fill_tile(g, f * g->tile_frames, h * g->tile_height, w * g->tile_width, order->raster + token);
            }
    order->offsets[block] = token;
}

nabla_status nabla_order_create(nabla_context *ctx, const nabla_grid *grid, nabla_order **out) {
    if (!out) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    nabla_status status = nabla_grid_check(ctx, grid);
    if (status) return status;
    nabla_order *order = calloc(1, sizeof *order);
    if (!order) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for an order");
    order->ops = ctx ? ctx->ops : &nabla_cpu_ops;
    order->home = ctx;
    order->place = ctx ? ctx->place : (nabla_place){.device = NABLA_CPU};
    order->grid = *grid;
    order->tiles = nabla_grid_tiles(grid);
    order->tokens = (int64_t)grid->frames * grid->height * grid->width;
    order->blocks = (int64_t)order->tiles.frames * order->tiles.height * order->tiles.width;
    order->offsets = malloc(((size_t)order->blocks + 1) * sizeof *order->offsets);
    order->raster = malloc((size_t)order->tokens * sizeof *order->raster);
    if (!order->offsets || !order->raster) {
        nabla_order_destroy(order);
        return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for an order of %lld tokens", (long long)order->tokens);
    }
    fill(order);
    status = order->ops->order_open(ctx, order);
    if (status)
        nabla_order_destroy(order);
    else
        *out = order;
    return status;
}

void nabla_order_destroy(nabla_order *order) {
    if (!order) return;
    order->ops->order_close(order);
    free(order->offsets);
    free(order->raster);
    free(order);
}

const nabla_grid *nabla_order_grid(const nabla_order *order) {
    return order ? &order->grid : NULL;
}

int64_t nabla_order_tokens(const nabla_order *order) {
    return order ? order->tokens : 0;
}

int64_t nabla_order_blocks(const nabla_order *order) {
    return order ? order->blocks : 0;
}

const int32_t *nabla_order_offsets(const nabla_order *order) {
    return order ? order->offsets : NULL;
}

const int32_t *nabla_order_raster(const nabla_order *order) {
    return order ? order->raster : NULL;
}

/* Everything after S contiguous; `elements` becomes how many that is. */
static nabla_status check_tail(nabla_context *ctx, const char *name, const nabla_tensor *t, int64_t *elements) {
    *elements = 1;
    for (int32_t i = t->rank - 1; i >= 2; i--) {
        if (t->shape[i] > 1 && t->stride[i] != *elements)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                              "%s has stride %lld in dimension %d; everything after dimension 1 must be contiguous",
                              name, (long long)t->stride[i], (int)i);
        *elements *= t->shape[i];
    }
    return NABLA_OK;
}

static nabla_status check_pair(nabla_context *ctx, const nabla_order *order, const nabla_tensor *src,
                               const nabla_tensor *dst, int64_t *elements) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (!order) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "order is NULL");
    nabla_status status = nabla_check_place(ctx, "the order", order->place);
    if (!status) status = nabla_check_view(ctx, "src", src, NABLA_READ);
    if (!status) status = nabla_check_view(ctx, "dst", dst, NABLA_WRITE);
    if (status) return status;
    if (src->rank < 2 || src->shape[1] != order->tokens)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "src has %lld tokens in dimension 1 and the order has %lld",
                          src->rank < 2 ? 0LL : (long long)src->shape[1], (long long)order->tokens);
    if (dst->dtype != src->dtype || dst->rank != src->rank ||
        memcmp(dst->shape, src->shape, (size_t)src->rank * sizeof *src->shape))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "src and dst must be of one dtype and shape");
    status = check_tail(ctx, "src", src, elements);
    return status ? status : check_tail(ctx, "dst", dst, elements);
}

static nabla_status permute(nabla_context *ctx, const nabla_order *order, const nabla_tensor *src,
                            const nabla_tensor *dst, bool gather) {
    nabla_permutation p = {.order = order, .src = src, .dst = dst, .gather = gather};
    const nabla_status status = check_pair(ctx, order, src, dst, &p.elements);
    return status ? status : ctx->ops->permute(ctx, &p);
}

nabla_status nabla_order_apply(nabla_context *ctx, const nabla_order *order, const nabla_tensor *src,
                               const nabla_tensor *dst) {
    return permute(ctx, order, src, dst, true);
}

nabla_status nabla_order_undo(nabla_context *ctx, const nabla_order *order, const nabla_tensor *src,
                              const nabla_tensor *dst) {
    return permute(ctx, order, src, dst, false);
}

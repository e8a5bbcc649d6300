/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "nabla/nabla.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static nabla_context *ctx;

static int setup(void **state) {
    (void)state;
    return nabla_context_create(NULL, &ctx, NULL, 0) != NABLA_OK;
}

static int teardown(void **state) {
    (void)state;
    nabla_context_destroy(ctx);
    return 0;
}

static const nabla_grid grids[] = {
    {1, 1, 1, 1, 8, 8},  {2, 16, 24, 1, 8, 8}, {3, 9, 17, 1, 8, 8},    {5, 7, 3, 2, 4, 2},
    {1, 1, 65, 1, 8, 8}, {4, 3, 5, 1, 1, 1},   {3, 10, 10, 7, 20, 30},
};
enum { GRIDS = sizeof grids / sizeof grids[0] };

/* Which tile a raster index lies in, from the definition. */
static int64_t tile_of(const nabla_grid *g, int32_t raster) {
    const int32_t f = raster / (g->height * g->width), h = raster / g->width % g->height, w = raster % g->width;
    const int32_t down = (g->height + g->tile_height - 1) / g->tile_height;
    const int32_t across = (g->width + g->tile_width - 1) / g->tile_width;
    return ((int64_t)(f / g->tile_frames) * down + h / g->tile_height) * across + w / g->tile_width;
}

static void tiles_are_blocks(void **state) {
    (void)state;
    for (int i = 0; i < GRIDS; i++) {
        nabla_order *order;
        assert_int_equal(nabla_order_create(ctx, grids + i, &order), NABLA_OK);
        const int64_t tokens = nabla_order_tokens(order), blocks = nabla_order_blocks(order);
        const int32_t *raster = nabla_order_raster(order), *offsets = nabla_order_offsets(order);
        bool *seen = calloc((size_t)tokens, sizeof *seen);
        assert_int_equal(tokens, (int64_t)grids[i].frames * grids[i].height * grids[i].width);
        assert_int_equal(offsets[0], 0);
        assert_int_equal(offsets[blocks], tokens);
        for (int64_t b = 0; b < blocks; b++)
            for (int32_t t = offsets[b]; t < offsets[b + 1]; t++) {
                assert_int_equal(tile_of(grids + i, raster[t]), b);
                assert_false(seen[raster[t]]);
                assert_true(t == offsets[b] || raster[t] > raster[t - 1]); /* row-major within a tile */
                seen[raster[t]] = true;
            }
        free(seen);
        nabla_order_destroy(order);
    }
}

static void undo_undoes_apply(void **state) {
    (void)state;
    for (int i = 0; i < GRIDS; i++) {
        nabla_order *order;
        assert_int_equal(nabla_order_create(ctx, grids + i, &order), NABLA_OK);
        const int64_t tokens = nabla_order_tokens(order), shape[] = {2, tokens, 3, 5};
        const size_t n = (size_t)(2 * tokens * 15);
        uint16_t *a = malloc(n * 2), *b = malloc(n * 2), *c = calloc(n, 2);
        for (size_t j = 0; j < n; j++)
            a[j] = (uint16_t)(j * 31 % 65521);
        const nabla_tensor x = nabla_tensor_contiguous(a, NABLA_BF16, 4, shape);
        const nabla_tensor y = nabla_tensor_contiguous(b, NABLA_BF16, 4, shape);
        const nabla_tensor z = nabla_tensor_contiguous(c, NABLA_BF16, 4, shape);
        assert_int_equal(nabla_order_apply(ctx, order, &x, &y), NABLA_OK);
        for (int64_t t = 0; t < tokens; t++)
            assert_memory_equal(b + (tokens + t) * 15, a + (tokens + nabla_order_raster(order)[t]) * 15, 30);
        assert_int_equal(nabla_order_undo(ctx, order, &y, &z), NABLA_OK);
        assert_memory_equal(a, c, n * 2);
        free(a);
        free(b);
        free(c);
        nabla_order_destroy(order);
    }
}

static void refuse(nabla_grid grid, nabla_status status, const char *message) {
    nabla_order *order = (nabla_order *)&grid;
    assert_int_equal(nabla_order_create(ctx, &grid, &order), status);
    assert_null(order);
    assert_string_equal(nabla_context_message(ctx), message);
}

static void bad_grids_are_named(void **state) {
    (void)state;
    refuse((nabla_grid){0, 8, 8, 1, 8, 8}, NABLA_INVALID_ARGUMENT,
           "grid 0x8x8 has an empty side; every side needs a token");
    refuse((nabla_grid){1, -8, 8, 1, 8, 8}, NABLA_INVALID_ARGUMENT,
           "grid 1x-8x8 has an empty side; every side needs a token");
    refuse((nabla_grid){1, 8, 8, 0, 8, 8}, NABLA_INVALID_ARGUMENT,
           "tile 0x8x8 has an empty side; the usual tile is 1x8x8");
    refuse((nabla_grid){INT32_MAX, INT32_MAX, INT32_MAX, 1, 8, 8}, NABLA_OVERFLOW,
           "grid 2147483647x2147483647x2147483647 has more than 2147483647 tokens");
    refuse((nabla_grid){2, 32768, 32768, 1, 8, 8}, NABLA_OVERFLOW,
           "grid 2x32768x32768 has more than 2147483647 tokens");
}

static void bad_tensors_are_named(void **state) {
    (void)state;
    const nabla_grid grid = nabla_grid_default(1, 4, 4);
    const int64_t shape[] = {1, 16, 2}, other[] = {1, 15, 2};
    float a[32], b[32];
    nabla_order *order;
    assert_int_equal(nabla_order_create(ctx, &grid, &order), NABLA_OK);
    nabla_tensor x = nabla_tensor_contiguous(a, NABLA_FP32, 3, shape),
                 y = nabla_tensor_contiguous(b, NABLA_FP32, 3, shape);
    nabla_tensor z = nabla_tensor_contiguous(b, NABLA_FP32, 3, other);
    assert_int_equal(nabla_order_apply(ctx, order, &z, &y), NABLA_INVALID_ARGUMENT);
    assert_string_equal(nabla_context_message(ctx), "src has 15 tokens in dimension 1 and the order has 16");
    assert_int_equal(nabla_order_apply(ctx, order, &x, &z), NABLA_INVALID_ARGUMENT);
    assert_string_equal(nabla_context_message(ctx), "src and dst must be of one dtype and shape");
    assert_int_equal(nabla_order_apply(ctx, order, NULL, &y), NABLA_INVALID_ARGUMENT);
    assert_string_equal(nabla_context_message(ctx), "src is NULL");
    y.stride[2] = 2;
    y.stride[1] = 1;
    assert_int_equal(nabla_order_apply(ctx, order, &x, &y), NABLA_INVALID_ARGUMENT);
    y.stride[1] = 0;
    y.stride[2] = 1;
    assert_int_equal(nabla_order_apply(ctx, order, &x, &y), NABLA_INVALID_ARGUMENT);
    assert_string_equal(nabla_context_message(ctx),
                        "dst's strides let elements share memory, and it is written; give each element its own");
    nabla_order_destroy(order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_are_blocks),
        cmocka_unit_test(undo_undoes_apply),
        cmocka_unit_test(bad_grids_are_named),
        cmocka_unit_test(bad_tensors_are_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

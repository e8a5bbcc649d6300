/* SPDX-License-Identifier: Apache-2.0 */
#include "video/mask.h"

#include <stdlib.h>
#include <string.h>

#include "media/media.h"

enum { GAP = 8, TARGET_WIDTH = 1200, MAX_CELL = 6, MAX_SIDE = 16384 };

static const uint8_t kept_colour[3] = {255, 196, 61}, dropped_colour[3] = {24, 32, 58}, gap_colour[3] = {255, 255, 255};

typedef struct picture {
    int64_t rows, columns, heads; /* blocks a head */
    int64_t across, down, cell;   /* heads a row and column; pixels a block */
    int64_t width, height;
} picture;

static nabla_status lay_out(picture *p, nv_error *err) {
    p->across = 1;
    while (p->across * p->across < p->heads)
        p->across++;
    if (p->heads <= 4) p->across = p->heads;
    p->down = (p->heads + p->across - 1) / p->across;
    p->cell = TARGET_WIDTH / (p->across * p->columns);
    p->cell = p->cell < 1 ? 1 : p->cell > MAX_CELL ? MAX_CELL : p->cell;
    p->width = p->across * (p->columns * p->cell + GAP) - GAP;
    p->height = p->down * (p->rows * p->cell + GAP) - GAP;
    if (p->width <= MAX_SIDE && p->height <= MAX_SIDE) return NABLA_OK;
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "a picture of %lld heads of %lld x %lld blocks would exceed %d pixels a side", (long long)p->heads,
                   (long long)p->rows, (long long)p->columns, MAX_SIDE);
}

static const uint8_t *colour_at(const picture *p, const uint8_t *bits, int64_t x, int64_t y) {
    int64_t pitch_x = p->columns * p->cell + GAP, pitch_y = p->rows * p->cell + GAP;
    int64_t head = (y / pitch_y) * p->across + x / pitch_x;
    int64_t column = (x % pitch_x) / p->cell, row = (y % pitch_y) / p->cell;
    if (head >= p->heads || column >= p->columns || row >= p->rows) return gap_colour;
    return bits[(head * p->rows + row) * p->columns + column] ? kept_colour : dropped_colour;
}

/* bits: [heads, rows, columns] */
static nabla_status paint(const picture *p, const uint8_t *bits, const char *path, nv_error *err) {
    uint8_t *rgb = malloc((size_t)(p->width * p->height) * 3);
    if (!rgb) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the picture of the mask");
    for (int64_t y = 0; y < p->height; y++)
        for (int64_t x = 0; x < p->width; x++)
            memcpy(rgb + (y * p->width + x) * 3, colour_at(p, bits, x, y), 3);
    nabla_status status = nv_png_write(path, rgb, (int32_t)p->width, (int32_t)p->height, err);
    free(rgb);
    return status;
}

nabla_status nv_mask_write(nabla_context *ctx, const nabla_plan *plan, int64_t batch, int64_t heads, int64_t entry,
                           const char *path, nv_error *err) {
    nabla_plan_stats stats = {.size = sizeof stats};
    nabla_status status = nabla_plan_get_stats(ctx, plan, &stats);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    picture p = {.rows = stats.q_blocks, .columns = stats.k_blocks, .heads = heads};
    NV_TRY(lay_out(&p, err));
    size_t sample = (size_t)(heads * p.rows * p.columns);
    uint8_t *bits = malloc((size_t)batch * sample);
    if (!bits) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a mask of %zu blocks", sample);
    status = nabla_plan_export_bitmap(ctx, plan, bits);
    if (status != NABLA_OK)
        nv_fail(err, status, "%s", nabla_context_message(ctx));
    else
        status = paint(&p, bits + (size_t)entry * sample, path, err);
    free(bits);
    return status;
}

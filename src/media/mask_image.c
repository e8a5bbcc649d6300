/* SPDX-License-Identifier: Apache-2.0 */
#include "media/mask_image.h"

#include <stdlib.h>
#include <string.h>

enum { GAP = 8, CELL_MOST = 12, LINE_CELL = 3 /* frames' edges are marked from this cell on */, MOST_SIDE = 16384 };

typedef struct colour {
    float rgb[3];
} colour;

static const colour kept_colour = {{255.0f, 196.0f, 61.0f}}, dropped_colour = {{24.0f, 32.0f, 58.0f}};
static const uint8_t gap_value = 255;

/* Of one head's square, or of the grid of squares. */
typedef struct layout {
    int64_t across, down;  /* heads */
    int64_t cell;          /* pixels a block ... */
    int64_t step;          /* ... or blocks a pixel; one of the two is 1 */
    int64_t width, height; /* pixels of a head */
} layout;

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static layout lay_out(const nv_mask_picture *p) {
    layout l = {.across = 1, .cell = 1, .step = 1};
    while (l.across * l.across < p->heads) {
        l.across++;
    }
    if (p->heads <= 4) l.across = p->heads; /* a strip reads better than a square */
    l.down = divide_up(p->heads, l.across);
    int64_t wide = (p->most - (l.across - 1) * GAP) / l.across, high = (p->most - (l.down - 1) * GAP) / l.down;
    wide = wide < 1 ? 1 : wide;
    high = high < 1 ? 1 : high;
    int64_t fits = wide / p->columns < high / p->rows ? wide / p->columns : high / p->rows;
    int64_t step_x = divide_up(p->columns, wide), step_y = divide_up(p->rows, high);
    if (fits > 1) l.cell = fits < CELL_MOST ? fits : CELL_MOST;
    if (fits < 1) l.step = step_x > step_y ? step_x : step_y;
    l.width = divide_up(p->columns * l.cell, l.step);
    l.height = divide_up(p->rows * l.cell, l.step);
    return l;
}

/* Share of kept blocks under a pixel. */
static float share_at(const nv_mask_picture *p, const layout *l, int64_t head, int64_t x, int64_t y) {
    int64_t row = y / l->cell * l->step, column = x / l->cell * l->step;
    int64_t row_end = row + l->step < p->rows ? row + l->step : p->rows;
    int64_t column_end = column + l->step < p->columns ? column + l->step : p->columns, sum = 0;
    const uint8_t *kept = p->kept + head * p->rows * p->columns;
    for (int64_t r = row; r < row_end; r++) {
        for (int64_t c = column; c < column_end; c++) {
            sum += kept[r * p->columns + c] != 0;
        }
    }
    return (float)sum / (float)((row_end - row) * (column_end - column));
}

/* Whether a pixel is the first of a frame, but for the first frame. */
static int on_edge(int64_t pixel, const layout *l, int64_t blocks, int64_t frames) {
    if (frames < 2 || blocks % frames || l->cell < LINE_CELL || pixel % l->cell) return 0;
    int64_t block = pixel / l->cell;
    return block > 0 && block % (blocks / frames) == 0;
}

static void draw_head(const nv_mask_picture *p, const layout *l, int64_t head, uint8_t *rgb, int64_t stride) {
    for (int64_t y = 0; y < l->height; y++) {
        for (int64_t x = 0; x < l->width; x++) {
            float share = share_at(p, l, head, x, y);
            /* an edge between frames is a thin line that lets the cell's colour through */
            int edge = on_edge(y, l, p->rows, p->row_frames) || on_edge(x, l, p->columns, p->column_frames);
            uint8_t *pixel = rgb + y * stride + 3 * x;
            for (int c = 0; c < 3; c++) {
                float v = dropped_colour.rgb[c] + share * (kept_colour.rgb[c] - dropped_colour.rgb[c]);
                if (edge) v += 0.35f * (128.0f - v);
                pixel[c] = (uint8_t)(v + 0.5f);
            }
        }
    }
}

nabla_status nv_mask_rgb(const nv_mask_picture *picture, uint8_t **rgb, int32_t *width, int32_t *height,
                         nv_error *err) {
    const nv_mask_picture *p = picture;
    *rgb = NULL;
    if (p->heads < 1 || p->rows < 1 || p->columns < 1 || p->most < 1 || p->most > MOST_SIDE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "a picture of %lld heads of %lld x %lld blocks in %d pixels",
                       (long long)p->heads, (long long)p->rows, (long long)p->columns, p->most);
    layout l = lay_out(p);
    int64_t pitch_x = l.width + GAP, pitch_y = l.height + GAP;
    int64_t wide = l.across * pitch_x - GAP, high = l.down * pitch_y - GAP;
    if (wide > MOST_SIDE || high > MOST_SIDE)
        return nv_fail(err, NABLA_UNSUPPORTED, "%lld heads are too many for one picture", (long long)p->heads);
    uint8_t *out = malloc((size_t)(wide * high) * 3);
    if (!out)
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a picture of %lld x %lld pixels", (long long)wide,
                       (long long)high);
    memset(out, gap_value, (size_t)(wide * high) * 3);
    for (int64_t h = 0; h < p->heads; h++) {
        int64_t first = h / l.across * pitch_y * wide + h % l.across * pitch_x;
        draw_head(p, &l, h, out + 3 * first, 3 * wide);
    }
    *rgb = out;
    *width = (int32_t)wide;
    *height = (int32_t)high;
    return NABLA_OK;
}

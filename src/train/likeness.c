/* SPDX-License-Identifier: Apache-2.0 */
#include "train/likeness.h"

#include <math.h>

enum { WINDOW = 7, STRIP = 64 /* columns summed at a time */ };

double nv_mean_square(const float *a, const float *b, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return n > 0 ? sum / (double)n : NAN;
}

double nv_psnr(double mean_square) {
    return 10.0 * log10(4.0 / mean_square);
}

/* ------------------------------------------------------------------ structure */

/* A pixel's brightness in [0, 1], weighted as ITU-R BT.601. */
static double brightness(const float *pixel, size_t plane) {
    const double sum = 0.299 * (double)pixel[0] + 0.587 * (double)pixel[plane] + 0.114 * (double)pixel[2 * plane];
    return 0.5 * (sum + 1.0);
}

/* Sums over pixels of two pictures: of either, of their squares, of their products. */
typedef struct moments {
    double a, b, aa, bb, ab;
} moments;

/* Of the pixels of a window's column, from a and b downwards. */
static moments sum_column(const float *a, const float *b, size_t plane, size_t width) {
    moments m = {0};
    for (size_t y = 0; y < WINDOW; y++) {
        const double u = brightness(a + y * width, plane), v = brightness(b + y * width, plane);
        m.a += u;
        m.b += v;
        m.aa += u * u;
        m.bb += v * v;
        m.ab += u * v;
    }
    return m;
}

static double window_ssim(const moments *columns) {
    const double n = WINDOW * WINDOW, c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
    moments m = {0};
    for (int x = 0; x < WINDOW; x++) {
        m.a += columns[x].a;
        m.b += columns[x].b;
        m.aa += columns[x].aa;
        m.bb += columns[x].bb;
        m.ab += columns[x].ab;
    }
    const double ma = m.a / n, mb = m.b / n;
    const double va = (m.aa - n * ma * ma) / (n - 1.0), vb = (m.bb - n * mb * mb) / (n - 1.0);
    const double both = (m.ab - n * ma * mb) / (n - 1.0);
    return (2.0 * ma * mb + c1) * (2.0 * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
}

/* Sum over the windows whose top row begins at a and b. The sums of STRIP columns serve the windows that lie in them.
 */
static double row_ssim(const float *a, const float *b, size_t plane, size_t width) {
    moments columns[STRIP];
    double sum = 0.0;
    for (size_t x0 = 0; x0 + WINDOW <= width; x0 += STRIP - WINDOW + 1) {
        const size_t n = width - x0 < STRIP ? width - x0 : STRIP;
        for (size_t x = 0; x < n; x++)
            columns[x] = sum_column(a + x0 + x, b + x0 + x, plane, width);
        for (size_t x = 0; x + WINDOW <= n; x++)
            sum += window_ssim(columns + x);
    }
    return sum;
}

double nv_ssim(const float *a, const float *b, const nv_clip_size *clip) {
    const size_t height = (size_t)clip->height, width = (size_t)clip->width, area = height * width;
    const size_t plane = area * (size_t)clip->frames;
    if (height < WINDOW || width < WINDOW) return NAN;
    double sum = 0.0;
    for (size_t f = 0; f < (size_t)clip->frames; f++)
        for (size_t y = 0; y + WINDOW <= height; y++)
            sum += row_ssim(a + f * area + y * width, b + f * area + y * width, plane, width);
    return sum / ((double)clip->frames * (double)(height - WINDOW + 1) * (double)(width - WINDOW + 1));
}

/* ------------------------------------------------------------------ edges of tiles */

/* Adds the step at index i of an axis, where `edge` pixels make a patch and `tile` patches a tile. */
static void add_step(double step, int32_t i, int32_t edge, int32_t tile, nv_edge_energy *sum) {
    if (i % (edge * tile) == 0) {
        sum->tile += step * step;
        sum->tile_count++;
    } else {
        sum->patch += step * step;
        sum->patch_count++;
    }
}

void nv_edge_energy_add(const float *video, const nv_clip_size *clip, const int32_t patch[2], const int32_t tile[2],
                        nv_edge_energy *sum) {
    const int32_t height = clip->height, width = clip->width;
    for (int32_t plane = 0; plane < 3 * clip->frames; plane++) {
        const float *at = video + (size_t)plane * (size_t)height * (size_t)width;
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = patch[1]; x < width; x += patch[1])
                add_step((double)at[(size_t)y * (size_t)width + (size_t)x] -
                             (double)at[(size_t)y * (size_t)width + (size_t)x - 1],
                         x, patch[1], tile[1], sum);
        for (int32_t y = patch[0]; y < height; y += patch[0])
            for (int32_t x = 0; x < width; x++)
                add_step((double)at[(size_t)y * (size_t)width + (size_t)x] -
                             (double)at[(size_t)(y - 1) * (size_t)width + (size_t)x],
                         y, patch[0], tile[0], sum);
    }
}

double nv_edge_ratio(const nv_edge_energy *e) {
    if (e->tile_count == 0 || e->patch_count == 0) return NAN;
    return e->tile / (double)e->tile_count / (e->patch / (double)e->patch_count);
}

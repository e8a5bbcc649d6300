/* SPDX-License-Identifier: Apache-2.0 */
#include "train/likeness.h"

#include <math.h>

enum { WINDOW = 7 };

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

/* Of one window, with its top left pixel at a and b. */
static double window_ssim(const float *a, const float *b, size_t plane, size_t width) {
    const double n = WINDOW * WINDOW, c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
    double sa = 0.0, sb = 0.0, aa = 0.0, bb = 0.0, ab = 0.0;
    for (size_t y = 0; y < WINDOW; y++) {
        for (size_t x = 0; x < WINDOW; x++) {
            const double u = brightness(a + y * width + x, plane), v = brightness(b + y * width + x, plane);
            sa += u;
            sb += v;
            aa += u * u;
            bb += v * v;
            ab += u * v;
        }
    }
    const double ma = sa / n, mb = sb / n;
    const double va = (aa - n * ma * ma) / (n - 1.0), vb = (bb - n * mb * mb) / (n - 1.0);
    const double both = (ab - n * ma * mb) / (n - 1.0);
    return (2.0 * ma * mb + c1) * (2.0 * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
}

double nv_ssim(const float *a, const float *b, const nv_clip_size *clip) {
    const size_t height = (size_t)clip->height, width = (size_t)clip->width, area = height * width;
    const size_t plane = area * (size_t)clip->frames;
    double sum = 0.0, windows = 0.0;
    for (size_t f = 0; f < (size_t)clip->frames; f++) {
        for (size_t y = 0; y + WINDOW <= height; y++) {
            for (size_t x = 0; x + WINDOW <= width; x++) {
                const size_t at = f * area + y * width + x;
                sum += window_ssim(a + at, b + at, plane, width);
                windows += 1.0;
            }
        }
    }
    return windows > 0.0 ? sum / windows : NAN;
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

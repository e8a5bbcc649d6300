/* SPDX-License-Identifier: Apache-2.0 */
/* Figures that compare clips with one another, and the trace that tiles leave. Clips are [3, frames, height, width] in
   [-1, 1]. */
#ifndef NV_LIKENESS_H
#define NV_LIKENESS_H

#include "train/source.h"

/* Mean squared difference of n values. */
double nv_mean_square(const float *a, const float *b, size_t n);
/* Peak signal to noise in decibels, of values that span 2; infinite where the clips are the same. */
double nv_psnr(double mean_square);
/* Structural similarity (Wang et al. 2004) of the brightness, mean over frames: plain windows of 7 x 7, as
   scikit-image's default. NaN for frames smaller than a window. */
double nv_ssim(const float *a, const float *b, const nv_clip_size *clip);

/* Squared steps of colour from pixel to pixel across the edges of tiles, and across those edges of patches that lie
   inside tiles: sums, and how many. */
typedef struct nv_edge_energy {
    double tile, patch;
    int64_t tile_count, patch_count;
} nv_edge_energy;
/* Adds a clip's. patch, tile: height and width in pixels, in tokens. */
void nv_edge_energy_add(const float *video, const nv_clip_size *clip, const int32_t patch[2], const int32_t tile[2],
                        nv_edge_energy *sum);
/* Mean across tiles' edges against the others': 1 where nobody can see them; NaN where there is no such edge. */
double nv_edge_ratio(const nv_edge_energy *e);

#endif

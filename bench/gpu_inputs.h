/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs of the GPU benchmark, made where they are used. Launchers queue work on the stream and return a cudaError_t as
   an int; x is [tokens, heads, head_dim], contiguous, in memory of the GPU. */
#ifndef NABLA_BENCH_GPU_INPUTS_H
#define NABLA_BENCH_GPU_INPUTS_H

#include "nabla/nabla.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gpu_field {
    void *x;
    nabla_dtype dtype;
    int64_t tokens, heads, head_dim;
    uint32_t seed;
} gpu_field;

/* Noise of mean 0 and variance 1, close to normal. */
int gpu_noise(const gpu_field *field, void *stream);

/* Sums of sinusoids of the token's position plus noise: two waves a dimension, of random direction, length and phase,
   the same for every field of one wave_seed (so for Q and K), each head of its own scale. Then q k^T is large where
   positions are near, and the block map is local and smooth. raster: [tokens] on the GPU, see nabla_order_raster(). */
int gpu_waves(const gpu_field *field, uint32_t wave_seed, const nabla_grid *grid, const int32_t *raster, void *stream);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_inputs.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

/* Lengths of waves and their share, chosen so that nabla-0.7 keeps about 8 % of the blocks of the paper's grid. */
constexpr int WAVES = 2;
constexpr float PER_FRAME = 0.1f, PER_PLACE = 1.0f / 16.0f; /* radians a frame, a row or column: standard deviations */
constexpr float AMPLITUDE = 0.8f, NOISE = 0.5f;             /* at head dim 128 */

__device__ uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* The sum of four uniform numbers, made to have mean 0 and variance 1. */
__device__ float normal(uint64_t key) {
    const uint64_t x = mix(key);
    const uint32_t sum =
        (uint32_t)(x & 0xffff) + (uint32_t)(x >> 16 & 0xffff) + (uint32_t)(x >> 32 & 0xffff) + (uint32_t)(x >> 48);
    return ((float)sum * (1.0f / 65536.0f) - 2.0f) * 1.7320508f;
}

__device__ float uniform(uint64_t key) {
    return (float)(mix(key) >> 40) * (1.0f / 16777216.0f);
}

__device__ void store(float *to, float x) {
    *to = x;
}

__device__ void store(__nv_bfloat16 *to, float x) {
    *to = __float2bfloat16_rn(x);
}

__device__ void store(__half *to, float x) {
    *to = __float2half_rn(x);
}

__device__ uint64_t key_of(uint32_t seed, int64_t i) {
    return (uint64_t)seed << 40 ^ (uint64_t)i;
}

template <typename T> __global__ void noise_kernel(T *x, int64_t n, uint32_t seed) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        store(x + i, normal(key_of(seed, i)));
}

/* A thread makes one dimension of one head for every gridDim.y-th token. */
template <typename T>
__global__ void waves_kernel(T *x, int64_t tokens, int columns, int head_dim, uint32_t seed, uint32_t wave_seed,
                             int height, int width, const int32_t *raster) {
    const int column = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= columns) return;
    const float scale = exp2f(2.0f * uniform(key_of(wave_seed, column / head_dim)) - 1.0f);
    const float amplitude = AMPLITUDE * powf(128.0f / (float)head_dim, 0.25f);
    float frame[WAVES], row[WAVES], place[WAVES], phase[WAVES];
    for (int j = 0; j < WAVES; j++) {
        const int64_t first = ((int64_t)column * WAVES + j + 1) * 4 + 4096;
        frame[j] = scale * PER_FRAME * normal(key_of(wave_seed, first));
        row[j] = scale * PER_PLACE * normal(key_of(wave_seed, first + 1));
        place[j] = scale * PER_PLACE * normal(key_of(wave_seed, first + 2));
        phase[j] = 6.2831853f * uniform(key_of(wave_seed, first + 3));
    }
    for (int64_t i = blockIdx.y; i < tokens; i += gridDim.y) {
        const int at = raster[i], w = at % width, h = at / width % height, f = at / width / height;
        float sum = NOISE * normal(key_of(seed, i * columns + column));
        for (int j = 0; j < WAVES; j++)
            sum += amplitude * cosf(frame[j] * (float)f + row[j] * (float)h + place[j] * (float)w + phase[j]);
        store(x + i * columns + column, sum);
    }
}

constexpr int THREADS = 256;

template <typename T> int launch_noise(const gpu_field *f, cudaStream_t stream) {
    noise_kernel<<<4096, THREADS, 0, stream>>>(static_cast<T *>(f->x), f->tokens * f->heads * f->head_dim, f->seed);
    return cudaGetLastError();
}

template <typename T>
int launch_waves(const gpu_field *f, uint32_t wave_seed, const nabla_grid *grid, const int32_t *raster,
                 cudaStream_t stream) {
    const int columns = (int)(f->heads * f->head_dim);
    const dim3 blocks((unsigned)((columns + THREADS - 1) / THREADS), 512);
    waves_kernel<<<blocks, THREADS, 0, stream>>>(static_cast<T *>(f->x), f->tokens, columns, (int)f->head_dim, f->seed,
                                                 wave_seed, grid->height, grid->width, raster);
    return cudaGetLastError();
}

} // namespace

int gpu_noise(const gpu_field *field, void *stream) {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (field->dtype == NABLA_FP32) return launch_noise<float>(field, s);
    if (field->dtype == NABLA_BF16) return launch_noise<__nv_bfloat16>(field, s);
    return launch_noise<__half>(field, s);
}

int gpu_waves(const gpu_field *field, uint32_t wave_seed, const nabla_grid *grid, const int32_t *raster, void *stream) {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    if (field->dtype == NABLA_FP32) return launch_waves<float>(field, wave_seed, grid, raster, s);
    if (field->dtype == NABLA_BF16) return launch_waves<__nv_bfloat16>(field, wave_seed, grid, raster, s);
    return launch_waves<__half>(field, wave_seed, grid, raster, s);
}

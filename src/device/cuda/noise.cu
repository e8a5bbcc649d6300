/* SPDX-License-Identifier: Apache-2.0 */
/* Noise mixed into clips. A thread makes one block of Philox, four normals, with the bits that the CPU gives them: this
   file is compiled without fused multiply-adds. */
#include "device/cuda/rows.cuh"
#include "tensor/philox.h"

enum { NOISE_THREADS = 256, NOISE_GROUPS = 65535 /* of a sample at a time: the grid's y */ };

template <int V, bool WIDE>
static __device__ void mix(const nv_noising &a, float sigma, int64_t at, const float *normal) {
    float x[V], clean[V];
    nv_load<V, WIDE>((const float *)a.clean + at, clean);
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] = (1.0f - sigma) * clean[i] + sigma * normal[i];
        clean[i] = normal[i] - clean[i];
    }
    nv_store<V, WIDE>(a.x + at, x);
    if (a.velocity) nv_store<V, WIDE>(a.clean + at, clean);
}

template <bool WIDE>
static __global__ void __launch_bounds__(NOISE_THREADS) noise_of_blocks(const __grid_constant__ nv_noising a) {
    const int64_t sample = blockIdx.x, blocks = (a.n + NV_PHILOX_WORDS - 1) / NV_PHILOX_WORDS;
    const uint64_t stream = *a.stream + (uint64_t)sample;
    const uint32_t key[2] = {(uint32_t)a.seed, (uint32_t)(a.seed >> 32)};
    const float sigma = a.sigma[sample];
    for (int64_t i = (int64_t)blockIdx.y * NOISE_THREADS + threadIdx.x; i < blocks;
         i += (int64_t)gridDim.y * NOISE_THREADS) {
        const uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
        const int64_t at = sample * a.n + i * NV_PHILOX_WORDS;
        uint32_t words[NV_PHILOX_WORDS];
        float normal[NV_PHILOX_WORDS];
        nv_philox_block(counter, key, words);
        nv_philox_pair(words[0], words[1], &normal[0], &normal[1]);
        nv_philox_pair(words[2], words[3], &normal[2], &normal[3]);
        if (WIDE)
            mix<NV_PHILOX_WORDS, true>(a, sigma, at, normal);
        else
            for (int64_t j = 0; j < NV_PHILOX_WORDS && i * NV_PHILOX_WORDS + j < a.n; j++)
                mix<1, false>(a, sigma, at + j, normal + j);
    }
}

nabla_status nv_cuda_noise(nv_device *dev, const nv_noising *a, nv_error *err) {
    if (a->batch == 0 || a->n == 0) return NABLA_OK;
    const int64_t groups = nv_groups(a->n, NV_PHILOX_WORDS * NOISE_THREADS);
    const dim3 grid((unsigned)a->batch, groups < NOISE_GROUPS ? (unsigned)groups : (unsigned)NOISE_GROUPS);
    const bool wide = a->n % 4 == 0 && nv_on_boundary(a->x, NABLA_FP32, 4) && nv_on_boundary(a->clean, NABLA_FP32, 4);
    void (*const kernel)(nv_noising) = wide ? noise_of_blocks<true> : noise_of_blocks<false>;
    NABLA_LAUNCH(kernel, grid, NOISE_THREADS, 0, nv_cuda_of(dev)->stream)(*a);
    return nv_cuda_launched(err, "noise");
}

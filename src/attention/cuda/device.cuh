/* SPDX-License-Identifier: Apache-2.0 */
/* What the plan kernels share: numbers of each dtype, words of bits, sums over a warp, the error of a launch. */
#ifndef NABLA_CUDA_DEVICE_CUH
#define NABLA_CUDA_DEVICE_CUH

#include "cuda/cuda.h"
#include "instructions.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

enum { NABLA_WARP = 32 };

#define NABLA_ALL_LANES 0xffffffffu

static inline int nabla_launched(void) {
    return (int)cudaGetLastError();
}

static inline int64_t nabla_groups(int64_t items, int64_t group) {
    return (items + group - 1) / group;
}

static inline bool nabla_aligned(const void *pointer, size_t bytes) {
    return (uintptr_t)pointer % bytes == 0;
}

/* N elements that are loaded and stored at once. */
template <typename T, int N> struct alignas(sizeof(T) * N) nabla_vector { T at[N]; };

static __device__ __forceinline__ float to_float(float x) {
    return x;
}

static __device__ __forceinline__ float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

static __device__ __forceinline__ float to_float(__half x) {
    return __half2float(x);
}

static __device__ __forceinline__ void from_float(float x, float *out) {
    *out = x;
}

static __device__ __forceinline__ void from_float(float x, __nv_bfloat16 *out) {
    *out = __float2bfloat16_rn(x);
}

static __device__ __forceinline__ void from_float(float x, __half *out) {
    *out = __float2half_rn(x);
}

/* The bits of word `word` whose places lie in [first, last). */
static __device__ __forceinline__ uint64_t bits_between(int32_t word, int32_t first, int32_t last) {
    const int64_t origin = (int64_t)word * 64;
    const int64_t from = first > origin ? first - origin : 0, to = last - origin < 64 ? last - origin : 64;
    return from < to ? ~UINT64_C(0) << from & ~UINT64_C(0) >> (64 - to) : 0;
}

/* In a fixed order, so that every run gives the same bits; every lane gets the sum. */
template <typename T> static __device__ __forceinline__ T warp_sum(T x) {
    for (int step = NABLA_WARP / 2; step; step /= 2)
        x += __shfl_xor_sync(NABLA_ALL_LANES, x, step);
    return x;
}

/* The sum over a thread block of whole warps, at most 1024 threads; thread 0 gets it. The barrier before the first use
   lets a caller use `room` (one element a warp) again. */
template <typename T> static __device__ __forceinline__ T block_sum(T x, T *room) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % NABLA_WARP == 0) room[threadIdx.x / NABLA_WARP] = x;
    __syncthreads();
    T sum = 0;
    if (threadIdx.x == 0)
        for (unsigned w = 0; w < blockDim.x / NABLA_WARP; w++)
            sum += room[w];
    return sum;
}

#endif

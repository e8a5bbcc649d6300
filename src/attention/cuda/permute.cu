/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens from raster to tile order and back: [B, S, bytes], a copy of whole rows, as fast as memory is. A row of
 * threads takes a token, with the widest vectors that both sides' alignment allows.
 */
#include "device.cuh"

enum { THREADS = 256 };

typedef struct permute_args {
    const char *src;
    char *dst;
    int64_t src_batch, src_row, dst_batch, dst_row; /* strides in bytes */
    int64_t batch, tokens, vectors;                 /* vectors a token */
    const int32_t *raster;
    bool gather;
} permute_args;

template <typename T> static __global__ void __launch_bounds__(THREADS) permute_tokens(permute_args a) {
    const int64_t token = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (token >= a.batch * a.tokens) return;
    const int64_t batch = token / a.tokens, i = token % a.tokens, other = a.raster[i];
    const T *src = (const T *)(a.src + batch * a.src_batch + (a.gather ? other : i) * a.src_row);
    T *dst = (T *)(a.dst + batch * a.dst_batch + (a.gather ? i : other) * a.dst_row);
#pragma unroll 4
    for (int64_t v = threadIdx.x; v < a.vectors; v += blockDim.x)
        dst[v] = src[v];
}

template <typename T> static int launch(permute_args a, int64_t bytes, nabla_cuda_stream stream) {
    a.vectors = bytes / (int64_t)sizeof(T);
    unsigned across = 1;
    while (across < THREADS && across < a.vectors)
        across *= 2;
    const dim3 threads(across, THREADS / across);
    const int64_t groups = nabla_groups(a.batch * a.tokens, threads.y);
    if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
    NABLA_LAUNCH(permute_tokens<T>, (unsigned)groups, threads, 0, stream)(a);
    return nabla_launched();
}

int nabla_cuda_permute(const void *src, int64_t src_batch, int64_t src_row, void *dst, int64_t dst_batch,
                       int64_t dst_row, int64_t batch, int64_t tokens, int64_t bytes, const int32_t *raster,
                       bool gather, nabla_cuda_stream stream) {
    permute_args a = {};
    a.src = (const char *)src;
    a.dst = (char *)dst;
    a.src_batch = src_batch;
    a.src_row = src_row;
    a.dst_batch = dst_batch;
    a.dst_row = dst_row;
    a.batch = batch;
    a.tokens = tokens;
    a.raster = raster;
    a.gather = gather;
    const uint64_t all = (uint64_t)(uintptr_t)src | (uint64_t)(uintptr_t)dst | (uint64_t)src_batch | (uint64_t)src_row |
                         (uint64_t)dst_batch | (uint64_t)dst_row | (uint64_t)bytes;
    if (all % 16 == 0) return launch<uint4>(a, bytes, stream);
    if (all % 8 == 0) return launch<uint2>(a, bytes, stream);
    if (all % 4 == 0) return launch<uint32_t>(a, bytes, stream);
    if (all % 2 == 0) return launch<uint16_t>(a, bytes, stream);
    return launch<uint8_t>(a, bytes, stream);
}

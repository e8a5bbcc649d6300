/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes over every number that also add up columns: as cells.cuh, but a thread block walks down a strip of columns
 * through a chunk of rows, with its sums in registers. A body is one of cells.cuh whose store adds to sums as well.
 */
#ifndef NV_CUDA_WALK_CUH
#define NV_CUDA_WALK_CUH

#include "device/cuda/cells.cuh"
#include "device/cuda/sums.cuh"

enum { NV_WALK_ROWS = 2 /* in flight a thread */ };

template <int V, typename B>
static __global__ void __launch_bounds__(NV_CELL_THREADS)
    nv_walk_strip(const __grid_constant__ nv_chunked c, uint32_t strips, const __grid_constant__ B body) {
    __shared__ float room[NV_CELL_THREADS][V];
    const int column = (int)((blockIdx.x % strips) * blockDim.x + threadIdx.x) * V, chunk = (int)(blockIdx.x / strips);
    const int64_t last = column < c.dim ? nv_chunk_last(c, chunk) : 0, step = blockDim.y;
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        sum[i] = 0.0f;
    for (int64_t row = nv_chunk_first(c, chunk) + threadIdx.y; row < last; row += step * NV_WALK_ROWS) {
        typename B::piece held[NV_WALK_ROWS];
#pragma unroll
        for (int i = 0; i < NV_WALK_ROWS; i++)
            if (row + i * step < last) body.load(held[i], row + i * step, column);
#pragma unroll
        for (int i = 0; i < NV_WALK_ROWS; i++)
            if (row + i * step < last) body.store(held[i], row + i * step, column, sum);
    }
    if (c.wanted == 0) return;
    float *mine = room[threadIdx.y * blockDim.x + threadIdx.x];
#pragma unroll
    for (int i = 0; i < V; i++)
        mine[i] = sum[i];
    __syncthreads();
    if (threadIdx.y || column >= c.dim) return;
    float *to = c.partial + (int64_t)chunk * c.dim + column;
#pragma unroll
    for (int i = 0; i < V; i++) {
        for (unsigned y = 1; y < blockDim.y; y++)
            sum[i] += room[y * blockDim.x + threadIdx.x][i];
        to[i] = sum[i];
    }
}

template <int V, typename B>
static nabla_status nv_walk(nv_cuda *d, const B &body, int64_t rows, int64_t cols, float *sums, const char *what,
                            nv_error *err) {
    if (rows == 0 || cols == 0) return NABLA_OK;
    if (rows > INT32_MAX || cols > INT32_MAX)
        return nv_fail(err, NABLA_UNSUPPORTED, "%s over %lld rows of %lld columns is more than a GPU takes at a time",
                       what, (long long)rows, (long long)cols);
    uint32_t strips;
    const dim3 block = nv_strip_block(nv_groups(cols, V), &strips);
    nv_sums of = {};
    of.to[0] = sums;
    nv_chunked c;
    NV_TRY(nv_cuda_chunk(d, rows, rows, cols, nv_groups(2 * NV_PIECES, strips), 8 * block.y, &of, &c, err));
    NABLA_LAUNCH((nv_walk_strip<V, B>), (unsigned)(c.count * strips), block, 0, d->stream)(c, strips, body);
    nv_cuda_add_chunks(d, &c);
    return nv_cuda_launched(err, what);
}

#endif

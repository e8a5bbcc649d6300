/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes that treat every number alike. A body says what becomes of one piece of a row; here every thread is given
 * pieces of a column in several rows, whose loads are all in flight before the first is used. A body has
 *     piece                         what it holds of one piece of V numbers between load and store
 *     load(piece &, row, column)
 *     store(piece &, row, column)
 */
#ifndef NV_CUDA_CELLS_CUH
#define NV_CUDA_CELLS_CUH

#include "device/cuda/rows.cuh"

enum { NV_CELL_THREADS = 256, NV_CELL_ROWS = 4 };

/* How columns are cut into strips, one thread block wide; a thread takes a piece of V columns. */
typedef struct nv_cells {
    int64_t rows, cols;
    uint32_t strips;
} nv_cells;

template <int V, typename B>
static __global__ void __launch_bounds__(NV_CELL_THREADS)
    nv_cell_pieces(const __grid_constant__ nv_cells c, const __grid_constant__ B body) {
    const int64_t column = ((int64_t)(blockIdx.x % c.strips) * blockDim.x + threadIdx.x) * V;
    const int64_t first = (int64_t)(blockIdx.x / c.strips) * blockDim.y * NV_CELL_ROWS + threadIdx.y;
    if (column >= c.cols) return;
    typename B::piece held[NV_CELL_ROWS];
#pragma unroll
    for (int i = 0; i < NV_CELL_ROWS; i++)
        if (first + i * blockDim.y < c.rows) body.load(held[i], first + i * blockDim.y, column);
#pragma unroll
    for (int i = 0; i < NV_CELL_ROWS; i++)
        if (first + i * blockDim.y < c.rows) body.store(held[i], first + i * blockDim.y, column);
}

/* A thread block for so many pieces a row: as wide as they are where they are few. */
static inline dim3 nv_strip_block(int64_t pieces, uint32_t *strips) {
    *strips = (uint32_t)nv_groups(pieces, NV_CELL_THREADS);
    int64_t wide = nv_groups(pieces, *strips);
    if (wide > NV_WARP) wide = nv_groups(wide, NV_WARP) * NV_WARP;
    return dim3((unsigned)wide, (unsigned)(NV_CELL_THREADS / wide));
}

template <int V, typename B>
static nabla_status nv_over_cells(const B &body, int64_t rows, int64_t cols, void *stream, const char *what,
                                  nv_error *err) {
    nv_cells c = {rows, cols, 1};
    if (rows == 0 || cols == 0) return NABLA_OK;
    const dim3 block = nv_strip_block(nv_groups(cols, V), &c.strips);
    const int64_t blocks = nv_groups(rows, block.y * NV_CELL_ROWS) * c.strips;
    if (blocks > INT32_MAX)
        return nv_fail(err, NABLA_UNSUPPORTED, "%s over %lld rows of %lld columns is more than a GPU takes at a time",
                       what, (long long)rows, (long long)cols);
    NABLA_LAUNCH((nv_cell_pieces<V, B>), (unsigned)blocks, block, 0, stream)(c, body);
    return nv_cuda_launched(err, what);
}

#endif

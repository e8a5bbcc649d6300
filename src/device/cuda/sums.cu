/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda/sums.cuh"

enum { COLUMNS = 32, SLICES = 16 };

/* A thread block adds up 32 columns of one quantity and one place that sums go to: its slices take runs of chunks, and
   the slices' sums are added in order. */
static __global__ void __launch_bounds__(COLUMNS *SLICES) add_chunks(const __grid_constant__ nv_chunked c) {
    __shared__ float room[SLICES][COLUMNS];
    int quantity = 0;
    while (c.at[quantity] != (int)blockIdx.z)
        quantity++;
    const int64_t stride = c.sums.stride[quantity], chunks = stride ? c.per_group : c.count;
    const int column = (int)(blockIdx.x * COLUMNS + threadIdx.x), slice = (int)threadIdx.y;
    const int64_t run = (chunks + SLICES - 1) / SLICES, step = (int64_t)c.wanted * c.dim;
    for (int64_t place = blockIdx.y; place < c.count / chunks; place += gridDim.y) {
        const float *from = c.partial + (place * chunks * c.wanted + blockIdx.z) * c.dim + column;
        float sum = 0.0f;
        const int64_t last = (slice + 1) * run < chunks ? (slice + 1) * run : chunks;
        if (column < c.dim)
#pragma unroll 8
            for (int64_t i = slice * run; i < last; i++)
                sum += from[i * step];
        room[slice][threadIdx.x] = sum;
        __syncthreads();
        if (slice == 0 && column < c.dim) {
            for (int i = 1; i < SLICES; i++)
                sum += room[i][threadIdx.x];
            c.sums.to[quantity][place * stride + column] += sum;
        }
        __syncthreads();
    }
}

nabla_status nv_cuda_chunk(nv_cuda *d, int64_t rows, int64_t group_rows, int64_t dim, int64_t pieces, int64_t least,
                           const nv_sums *sums, nv_chunked *out, nv_error *err) {
    int64_t chunk = nv_groups(rows, pieces);
    if (chunk < least) chunk = least;
    if (chunk > group_rows) chunk = group_rows;
    nv_chunked c = {};
    c.sums = *sums;
    for (int i = 0; i < NV_SUMS; i++)
        c.at[i] = sums->to[i] ? c.wanted++ : -1;
    c.dim = (int32_t)dim;
    c.group_rows = (int32_t)group_rows;
    c.chunk_rows = (int32_t)chunk;
    c.per_group = (int32_t)nv_groups(group_rows, chunk);
    c.count = rows / group_rows * c.per_group;
    *out = c;
    if (c.wanted == 0) return NABLA_OK;
    return nv_cuda_scratch(d, (size_t)(c.count * c.wanted * dim) * sizeof(float), (void **)&out->partial, err);
}

void nv_cuda_add_chunks(nv_cuda *d, const nv_chunked *c) {
    if (c->wanted == 0) return;
    const int64_t groups = c->count / c->per_group;
    const dim3 grid((unsigned)nv_groups(c->dim, COLUMNS), groups < 65535 ? (unsigned)groups : 65535,
                    (unsigned)c->wanted);
    NABLA_LAUNCH(add_chunks, grid, dim3(COLUMNS, SLICES), 0, d->stream)(*c);
}

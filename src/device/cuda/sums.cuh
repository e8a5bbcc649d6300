/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Column sums, for gradients of parameters. A thread block walks one chunk of rows and adds up its columns in fp32, in
 * shared memory or registers; then a second kernel adds the chunks' sums in order. Chunks follow from the shape alone
 * and do not cross groups of rows, so that the sums are the same on every GPU.
 */
#ifndef NV_CUDA_SUMS_CUH
#define NV_CUDA_SUMS_CUH

#include "device/cuda/rows.cuh"

enum {
    NV_SUMS = 4,     /* quantities that are summed at a time */
    NV_PIECES = 1056 /* chunks to aim at: eight for each multiprocessor of an H100 */
};

/* Where the sums of quantity i go: to[i][group * stride[i] + column] += ..., all groups to one place where the stride
   is 0. NULL: not wanted. */
typedef struct nv_sums {
    float *to[NV_SUMS];
    int64_t stride[NV_SUMS];
} nv_sums;

/* The plan of it, as kernels see it. */
typedef struct nv_chunked {
    nv_sums sums;
    int32_t at[NV_SUMS]; /* place among the quantities that are wanted; -1: is not */
    int32_t wanted, dim;
    int32_t group_rows, chunk_rows, per_group; /* chunks */
    int64_t count;                             /* of chunks in all */
    float *partial;                            /* [count][wanted][dim] */
} nv_chunked;

/* Cuts rows > 0 into chunks of at least `least` rows, about `pieces` of them where there are enough, and takes the
   scratch for their sums. */
nabla_status nv_cuda_chunk(nv_cuda *d, int64_t rows, int64_t group_rows, int64_t dim, int64_t pieces, int64_t least,
                           const nv_sums *sums, nv_chunked *out, nv_error *err);
/* Queues the second kernel. */
void nv_cuda_add_chunks(nv_cuda *d, const nv_chunked *c);

/* Rows [first, last) of chunk i. */
NV_FN int32_t nv_chunk_first(const nv_chunked &c, int32_t i) {
    return i / c.per_group * c.group_rows + i % c.per_group * c.chunk_rows;
}

NV_FN int32_t nv_chunk_last(const nv_chunked &c, int32_t i) {
    const int32_t end = i % c.per_group * c.chunk_rows + c.chunk_rows;
    return i / c.per_group * c.group_rows + (end < c.group_rows ? end : c.group_rows);
}

/* ---- sums in shared memory, [wanted][dim]. A piece is the same thread's for all rows, so there is nothing to wait
   for. Wide pieces of 8 lie as two halves, dim / 2 apart, for neighbouring threads to touch neighbouring 16 bytes. */

/* Adds a row to quantity `i`, where it is wanted. */
template <typename F> NV_FN void nv_sum_row(const nv_chunked &c, float *sums, int i, const nv_held<F> &row) {
    if (c.at[i] < 0) return;
    sums += c.at[i] * c.dim;
#pragma unroll
    for (int p = 0; p < F::PIECES; p++) {
        const int column = nv_column<F>(p);
        if (!nv_mine<F>(p, c.dim)) continue;
        const float(&v)[F::V] = row.at[p];
#pragma unroll
        for (int j = 0; j < F::V; j += F::WIDE ? 4 : 1) {
            if constexpr (F::WIDE) {
                float4 *to = (float4 *)(sums + column / (F::V / 4) + j / 4 * (c.dim / 2));
                const float4 s = *to;
                *to = make_float4(s.x + v[j], s.y + v[j + 1], s.z + v[j + 2], s.w + v[j + 3]);
            } else {
                sums[column + j] += v[j];
            }
        }
    }
}

template <typename F> NV_FN float nv_sum_at(const float *sums, int column, int dim) {
    if constexpr (F::WIDE && F::V == 8)
        return sums[column / 8 * 4 + column % 8 / 4 * (dim / 2) + column % 4];
    else
        return sums[column];
}

/* Before the first row, and after the last. */
NV_FN void nv_clear_sums(const nv_chunked &c, float *sums) {
    for (int i = (int)threadIdx.x; i < c.wanted * c.dim; i += (int)blockDim.x)
        sums[i] = 0.0f;
    __syncthreads();
}

template <typename F> NV_FN void nv_keep_sums(const nv_chunked &c, int32_t chunk, const float *sums) {
    __syncthreads();
    float *to = c.partial + (int64_t)chunk * c.wanted * c.dim;
    for (int i = (int)threadIdx.x; i < c.wanted * c.dim; i += (int)blockDim.x) {
        const int column = i % c.dim;
        to[i] = nv_sum_at<F>(sums + (i - column), column, c.dim);
    }
}

/* Of kernels that keep their sums so: a thread block of one team walks a chunk. The most columns whose four sums an
   A100's shared memory takes; their threads leave each 96 registers. */
enum { NV_SUMMED_COLUMNS = 10240, NV_SUMMED_THREADS = NV_SUMMED_COLUMNS / NV_HELD };

static inline nabla_status nv_check_summed(int64_t rows, int64_t cols, const char *what, nv_error *err) {
    if (rows > INT32_MAX || cols > NV_SUMMED_COLUMNS)
        return nv_fail(err, NABLA_UNSUPPORTED, "%s over %lld rows of %lld columns: the GPU takes up to %d of up to %d",
                       what, (long long)rows, (long long)cols, INT32_MAX, (int)NV_SUMMED_COLUMNS);
    return NABLA_OK;
}

/* As nv_launch_rows. */
template <typename A>
static void nv_launch_summed(void (*full)(A, nv_chunked), void (*wide)(A, nv_chunked), void (*narrow)(A, nv_chunked),
                             bool is_wide, const A &args, const nv_chunked &c, void *stream) {
    void (*const kernel)(A, nv_chunked) = is_wide && nv_full(c.dim) ? full : is_wide ? wide : narrow;
    const unsigned team = nv_team_for(c.dim), threads = team < NV_WARP ? (unsigned)NV_WARP : team;
    const size_t bytes = (size_t)c.wanted * (size_t)c.dim * sizeof(float);
    if (bytes > 48 << 10) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    NABLA_LAUNCH(kernel, (unsigned)c.count, threads, bytes, stream)(args, c);
}

#endif

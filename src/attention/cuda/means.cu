/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block means: x [B, S, H, D] -> mean [B * H][blocks][D] in fp32, the true count dividing in ragged blocks.
 *
 * This reads all of Q or K once and is as fast as memory is. Heads of a token are neighbours, so a thread takes 16
 * bytes of a token's row and walks the block's tokens; a thread block reads runs of 2 KB, several tokens at a time.
 * Tokens are added in order, as the generic CPU kernel adds them.
 */
#include "device.cuh"

enum { COLUMNS = 128 /* threads, a vector of elements each */, AHEAD = 8 /* loads in flight a thread */ };

typedef struct means_args {
    const int32_t *offsets;
    int32_t blocks, heads, head_dim;
    int32_t chunks; /* thread blocks that share a block's row of heads */
    int64_t batch_stride, row_stride, head_stride;
    float *mean;
} means_args;

template <typename T, int N>
static __global__ void __launch_bounds__(COLUMNS) block_means(means_args a, const T *__restrict__ x) {
    const int32_t per_head = a.head_dim / N;
    const int32_t column = (int32_t)(blockIdx.x % a.chunks) * COLUMNS + threadIdx.x;
    const int32_t block = (int32_t)(blockIdx.x / a.chunks % a.blocks);
    const int64_t batch = blockIdx.x / a.chunks / a.blocks;
    const int32_t head = column / per_head, d = column % per_head * N;
    if (head >= a.heads) return;

    const int32_t first = a.offsets[block], last = a.offsets[block + 1];
    const T *at = x + batch * a.batch_stride + first * a.row_stride + head * a.head_stride + d;
    float sum[N] = {0};
    int32_t t = first;
    for (; t + AHEAD <= last; t += AHEAD, at += AHEAD * a.row_stride) {
        nabla_vector<T, N> v[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            v[i] = *(const nabla_vector<T, N> *)(at + i * a.row_stride);
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            for (int j = 0; j < N; j++)
                sum[j] += to_float(v[i].at[j]);
    }
    for (; t < last; t++, at += a.row_stride) {
        const nabla_vector<T, N> v = *(const nabla_vector<T, N> *)at;
        for (int j = 0; j < N; j++)
            sum[j] += to_float(v.at[j]);
    }
    float *out = a.mean + ((batch * a.heads + head) * a.blocks + block) * a.head_dim + d;
    enum { STORED = N < 4 ? N : 4 }; /* at once */
#pragma unroll
    for (int i = 0; i < N; i += STORED) {
        nabla_vector<float, STORED> mean;
        for (int j = 0; j < STORED; j++)
            mean.at[j] = sum[i + j] / (float)(last - first);
        *(nabla_vector<float, STORED> *)(out + i) = mean;
    }
}

template <typename T, int N> static int launch(means_args a, int64_t batch, const void *x, nabla_cuda_stream stream) {
    a.chunks = (int32_t)nabla_groups((int64_t)a.heads * (a.head_dim / N), COLUMNS);
    const int64_t groups = batch * a.blocks * a.chunks;
    if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
    NABLA_LAUNCH((block_means<T, N>), (unsigned)groups, COLUMNS, 0, stream)(a, (const T *)x);
    return nabla_launched();
}

/* 16 bytes at a time where every row begins on a 16-byte boundary; else element by element. */
template <typename T>
static int launch_by_alignment(const means_args &a, int64_t batch, const void *x, nabla_cuda_stream stream) {
    enum { WIDE = 16 / sizeof(T) };
    const bool wide = nabla_aligned(x, 16) && (a.batch_stride | a.row_stride | a.head_stride) % WIDE == 0;
    return wide ? launch<T, WIDE>(a, batch, x, stream) : launch<T, 1>(a, batch, x, stream);
}

int nabla_cuda_means(const nabla_cuda_plan *plan, bool keys, const nabla_cuda_tensor *x, int32_t head_dim, float *mean,
                     nabla_cuda_stream stream) {
    const nabla_cuda_side *side = keys ? &plan->k : &plan->q;
    means_args a = {};
    a.offsets = side->offsets;
    a.blocks = side->blocks;
    a.heads = plan->heads;
    a.head_dim = head_dim;
    a.batch_stride = x->batch;
    a.row_stride = x->row;
    a.head_stride = x->head;
    a.mean = mean;
    switch (x->dtype) {
    case NABLA_FP32:
        return launch_by_alignment<float>(a, plan->batch, x->data, stream);
    case NABLA_BF16:
        return launch_by_alignment<__nv_bfloat16>(a, plan->batch, x->data, stream);
    case NABLA_FP16:
        return launch_by_alignment<__half>(a, plan->batch, x->data, stream);
    }
    return cudaErrorInvalidValue;
}

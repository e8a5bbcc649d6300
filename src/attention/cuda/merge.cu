/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merges two partial results over disjoint sets of keys into the first: o [B, S, H, D], lse [B, H, S].
 * Weights are exp(lse - max); a side that attended to nothing has -inf and weighs nothing. See merge.c.
 */
#include "device.cuh"

enum { THREADS = 256, QUAD = 4 /* elements a thread takes at a time; head dims are multiples of 8 */ };

template <typename T, int N>
static __device__ __forceinline__ void load(const void *row, int32_t d, float (&out)[QUAD]) {
    for (int i = 0; i < QUAD; i += N) {
        const nabla_vector<T, N> v = *(const nabla_vector<T, N> *)((const T *)row + d + i);
        for (int j = 0; j < N; j++)
            out[i + j] = to_float(v.at[j]);
    }
}

template <typename T, int N>
static __device__ __forceinline__ void store(const float (&x)[QUAD], void *row, int32_t d) {
    for (int i = 0; i < QUAD; i += N) {
        nabla_vector<T, N> v;
        for (int j = 0; j < N; j++)
            from_float(x[i + j], &v.at[j]);
        *(nabla_vector<T, N> *)((T *)row + d + i) = v;
    }
}

static __device__ __forceinline__ int64_t row_at(const nabla_cuda_tensor &t, int64_t b, int64_t s, int64_t h) {
    return b * t.batch + s * t.row + h * t.head;
}

/* A row is `across` neighbouring threads of one warp: all have read its lse before one of them writes it. */
template <typename A, typename B, int N>
static __global__ void __launch_bounds__(THREADS) merge_rows(nabla_cuda_merge_args m, int32_t across) {
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t row = thread / across, rows = m.batch * m.tokens * m.heads;
    const int32_t place = (int32_t)(thread % across);
    const bool inside = row < rows;
    const int64_t h = row % m.heads, s = row / m.heads % m.tokens, b = row / m.heads / m.tokens;
    float *at = m.lse_a + b * m.lse_a_stride[0] + h * m.lse_a_stride[1] + s * m.lse_a_stride[2];
    const float *at_b = m.lse_b + b * m.lse_b_stride[0] + h * m.lse_b_stride[1] + s * m.lse_b_stride[2];
    const float lse_a = inside ? *at : 0.0f, lse_b = inside ? *at_b : -INFINITY;
    __syncwarp();
    if (lse_b == -INFINITY) return;
    const float max = lse_a > lse_b ? lse_a : lse_b;
    const float weight_a = expf(lse_a - max), weight_b = expf(lse_b - max), sum = weight_a + weight_b;
    A *o_a = (A *)m.o_a.data + row_at(m.o_a, b, s, h);
    const B *o_b = (const B *)m.o_b.data + row_at(m.o_b, b, s, h);
    for (int32_t d = place * QUAD; d < m.head_dim; d += across * QUAD) {
        float x[QUAD], y[QUAD];
        load<A, N>(o_a, d, x);
        load<B, N>(o_b, d, y);
        for (int i = 0; i < QUAD; i++)
            x[i] = (weight_a * x[i] + weight_b * y[i]) / sum;
        store<A, N>(x, o_a, d);
    }
    if (place == 0) *at = max + logf(sum);
}

template <typename A, typename B, int N> static int launch(const nabla_cuda_merge_args *m, nabla_cuda_stream stream) {
    int32_t across = 4;
    while (across < NABLA_WARP && across * QUAD < m->head_dim)
        across *= 2;
    const int64_t groups = nabla_groups(m->batch * m->tokens * m->heads * across, THREADS);
    if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
    NABLA_LAUNCH((merge_rows<A, B, N>), (unsigned)groups, THREADS, 0, stream)(*m, across);
    return nabla_launched();
}

static bool wide(const nabla_cuda_tensor &t) {
    return nabla_aligned(t.data, QUAD * nabla_dtype_size(t.dtype)) && (t.batch | t.row | t.head) % QUAD == 0;
}

template <typename A, typename B>
static int launch_by_alignment(const nabla_cuda_merge_args *m, nabla_cuda_stream stream) {
    return wide(m->o_a) && wide(m->o_b) ? launch<A, B, QUAD>(m, stream) : launch<A, B, 1>(m, stream);
}

template <typename A> static int launch_for(const nabla_cuda_merge_args *m, nabla_cuda_stream stream) {
    switch (m->o_b.dtype) {
    case NABLA_FP32:
        return launch_by_alignment<A, float>(m, stream);
    case NABLA_BF16:
        return launch_by_alignment<A, __nv_bfloat16>(m, stream);
    case NABLA_FP16:
        return launch_by_alignment<A, __half>(m, stream);
    }
    return cudaErrorInvalidValue;
}

int nabla_cuda_merge(const nabla_cuda_merge_args *m, nabla_cuda_stream stream) {
    switch (m->o_a.dtype) {
    case NABLA_FP32:
        return launch_for<float>(m, stream);
    case NABLA_BF16:
        return launch_for<__nv_bfloat16>(m, stream);
    case NABLA_FP16:
        return launch_for<__half>(m, stream);
    }
    return cudaErrorInvalidValue;
}

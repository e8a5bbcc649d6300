/* SPDX-License-Identifier: Apache-2.0 */
/* Plain passes: from one dtype to another, sums of columns, sums of arrays. */
#include "device/cuda/walk.cuh"

template <typename S, typename D, int V, bool WIDE> struct cast_body {
    typedef float piece[V];
    nv_matrix src, dst;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        nv_load<V, WIDE>(nv_row<S>(src, row) + column, v);
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
        nv_store<V, WIDE>(nv_row<D>(dst, row) + column, v);
    }
};

template <typename S, typename D, int V>
static nabla_status cast(nv_device *dev, nv_matrix src, nv_matrix dst, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    if (nv_wide(src, V) && nv_wide(dst, V))
        return nv_over_cells<V>(cast_body<S, D, V, true>{src, dst}, src.rows, src.cols, stream, "a cast", err);
    return nv_over_cells<1>(cast_body<S, D, 1, false>{src, dst}, src.rows, src.cols, stream, "a cast", err);
}

nabla_status nv_cuda_cast(nv_device *dev, nv_matrix src, nv_matrix dst, nv_error *err) {
    if (src.dtype == NABLA_BF16)
        return dst.dtype == NABLA_BF16 ? cast<__nv_bfloat16, __nv_bfloat16, 8>(dev, src, dst, err)
                                       : cast<__nv_bfloat16, float, 4>(dev, src, dst, err);
    return dst.dtype == NABLA_BF16 ? cast<float, __nv_bfloat16, 4>(dev, src, dst, err)
                                   : cast<float, float, 4>(dev, src, dst, err);
}

template <typename T, int V, bool WIDE> struct sums_body {
    typedef float piece[V];
    nv_matrix x;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        nv_load<V, WIDE>(nv_row<T>(x, row) + column, v);
    }
    __device__ void store(piece &v, int64_t, int64_t, float (&sum)[V]) const {
#pragma unroll
        for (int i = 0; i < V; i++)
            sum[i] += v[i];
    }
};

template <typename T, int V> static nabla_status column_sums(nv_device *dev, nv_matrix x, float *sums, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    if (nv_wide(x, V)) return nv_walk<V>(d, sums_body<T, V, true>{x}, x.rows, x.cols, sums, "sums of columns", err);
    return nv_walk<1>(d, sums_body<T, 1, false>{x}, x.rows, x.cols, sums, "sums of columns", err);
}

nabla_status nv_cuda_column_sums(nv_device *dev, nv_matrix x, float *sums, nv_error *err) {
    return x.dtype == NABLA_BF16 ? column_sums<__nv_bfloat16, 8>(dev, x, sums, err)
                                 : column_sums<float, 4>(dev, x, sums, err);
}

template <int V, bool WIDE> struct add_body {
    struct piece {
        float sum[V], x[V];
    };
    float *sum;
    const float *x;

    __device__ void load(piece &v, int64_t, int64_t at) const {
        nv_load<V, WIDE>((const float *)sum + at, v.sum);
        nv_load<V, WIDE>(x + at, v.x);
    }
    __device__ void store(piece &v, int64_t, int64_t at) const {
#pragma unroll
        for (int i = 0; i < V; i++)
            v.sum[i] += v.x[i];
        nv_store<V, WIDE>(sum + at, v.sum);
    }
};

nabla_status nv_cuda_add(nv_device *dev, float *sum, const float *x, int64_t n, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    if (n % 4 == 0 && nv_on_boundary(sum, NABLA_FP32, 4) && nv_on_boundary(x, NABLA_FP32, 4))
        return nv_over_cells<4>(add_body<4, true>{sum, x}, 1, n, stream, "a sum", err);
    return nv_over_cells<1>(add_body<1, false>{sum, x}, 1, n, stream, "a sum", err);
}

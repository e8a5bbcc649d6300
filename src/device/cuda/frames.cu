/* SPDX-License-Identifier: Apache-2.0 */
/* The VAE's passes over a frame's pixels. */
#include "device/cuda/activation.cuh"
#include "device/cuda/cells.cuh"

template <typename T, typename F>
static __global__ void __launch_bounds__(NV_MOST_THREADS) channel_norm_rows(const __grid_constant__ nv_channel_norm a) {
    const int cols = nv_team_columns<F>(a.x.rows, a.x.cols);
    const int64_t row = nv_team_row();
    nv_held<F> v, gamma;
    nv_load_row<F>(nv_row<const float>(a.x, row), cols, v);
    nv_recall_row<F>(a.gamma, cols, gamma);
    const float length = sqrtf(nv_team_squares<F>(v)),
                scale = sqrtf((float)a.x.cols) / (length > 1e-12f ? length : 1e-12f);
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++) {
            v.at[p][i] = v.at[p][i] * scale * gamma.at[p][i];
            if (a.silu) v.at[p][i] *= nv_sigmoid(v.at[p][i]);
        }
    nv_store_row<F>(nv_row<T>(a.y, row), cols, v);
}

template <typename T> static void norm(const nv_channel_norm *a, void *stream) {
    enum { V = 4 };
    const bool wide = nv_wide(a->x, V) && nv_wide(a->y, V) && nv_on_boundary(a->gamma, NABLA_FP32, V);
    nv_launch_rows(channel_norm_rows<T, nv_fit<V, true, true>>, channel_norm_rows<T, nv_fit<V, true, false>>,
                   channel_norm_rows<T, nv_fit<1, false, false>>, wide, a->x.rows, a->x.cols, *a, stream);
}

nabla_status nv_cuda_channel_norm(nv_device *dev, const nv_channel_norm *a, nv_error *err) {
    if (a->x.rows == 0) return NABLA_OK;
    NV_TRY(nv_check_rows(a->x.rows, a->x.cols, "a norm of channels", err));
    if (a->y.dtype == NABLA_BF16)
        norm<__nv_bfloat16>(a, nv_cuda_of(dev)->stream);
    else
        norm<float>(a, nv_cuda_of(dev)->stream);
    return nv_cuda_launched(err, "a norm of channels");
}

/* A row is a pixel of x. */
template <typename T, int V, bool WIDE> struct upsample_body {
    typedef float piece[V];
    const float *x;
    int64_t width;
    nv_matrix y;

    __device__ void load(piece &v, int64_t pixel, int64_t column) const {
        nv_load<V, WIDE>(x + pixel * y.cols + column, v);
    }
    __device__ void store(piece &v, int64_t pixel, int64_t column) const {
        const int64_t corner = (uint32_t)pixel / (uint32_t)width * 4 * width + (uint32_t)pixel % (uint32_t)width * 2;
#pragma unroll
        for (int i = 0; i < 4; i++)
            nv_store<V, WIDE>(nv_row<T>(y, corner + i / 2 * 2 * width + i % 2) + column, v);
    }
};

template <typename T>
static nabla_status upsample(nv_device *dev, const float *x, int64_t height, int64_t width, nv_matrix y,
                             nv_error *err) {
    enum { V = 4 };
    void *stream = nv_cuda_of(dev)->stream;
    if (nv_on_boundary(x, NABLA_FP32, V) && nv_wide(y, V))
        return nv_over_cells<V>(upsample_body<T, V, true>{x, width, y}, height * width, y.cols, stream, "an upsampling",
                                err);
    return nv_over_cells<1>(upsample_body<T, 1, false>{x, width, y}, height * width, y.cols, stream, "an upsampling",
                            err);
}

nabla_status nv_cuda_upsample(nv_device *dev, const float *x, int32_t height, int32_t width, nv_matrix y,
                              nv_error *err) {
    if ((int64_t)height * width > INT32_MAX)
        return nv_fail(err, NABLA_UNSUPPORTED, "upsampling a frame of %d x %d: the GPU takes up to %d pixels",
                       (int)height, (int)width, INT32_MAX);
    return y.dtype == NABLA_BF16 ? upsample<__nv_bfloat16>(dev, x, height, width, y, err)
                                 : upsample<float>(dev, x, height, width, y, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The VAE's passes over a frame's pixels. */
#include "device/cuda/activation.cuh"
#include "device/cuda/cells.cuh"

template <typename T, int V, bool WIDE>
static __global__ void __launch_bounds__(NV_MOST_THREADS) channel_norm_rows(const __grid_constant__ nv_channel_norm a) {
    enum { PIECES = NV_HELD / V };
    const int cols = (int)a.x.cols, team = (int)blockDim.x;
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const bool live = row < a.x.rows;
    float v[PIECES][V], squares[1] = {0.0f};
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int column = (p * team + (int)threadIdx.x) * V;
#pragma unroll
        for (int i = 0; i < V; i++)
            v[p][i] = 0.0f;
        if (live && column < cols) nv_load<V, WIDE>(nv_row<const float>(a.x, row) + column, v[p]);
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++)
#pragma unroll
        for (int i = 0; i < V; i++)
            squares[0] += v[p][i] * v[p][i];
    nv_team_sum(squares);
    const float length = sqrtf(squares[0]), scale = sqrtf((float)cols) / (length > 1e-12f ? length : 1e-12f);
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int column = (p * team + (int)threadIdx.x) * V;
        if (!live || column >= cols) continue;
        float gamma[V];
        nv_recall<V, WIDE>(a.gamma + column, gamma);
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[p][i] = v[p][i] * scale * gamma[i];
            if (a.silu) v[p][i] *= nv_sigmoid(v[p][i]);
        }
        nv_store<V, WIDE>(nv_row<T>(a.y, row) + column, v[p]);
    }
}

template <typename T> static void norm(const nv_channel_norm *a, void *stream) {
    enum { V = 4 };
    const dim3 block = nv_team_block(a->x.cols);
    const unsigned blocks = (unsigned)nv_groups(a->x.rows, block.y);
    if (nv_wide(a->x, V) && nv_wide(a->y, V) && nv_on_boundary(a->gamma, NABLA_FP32, V))
        NABLA_LAUNCH((channel_norm_rows<T, V, true>), blocks, block, 0, stream)(*a);
    else
        NABLA_LAUNCH((channel_norm_rows<T, 1, false>), blocks, block, 0, stream)(*a);
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

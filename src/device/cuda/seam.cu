/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between two branches: a team of threads holds the row from its sum with y until it is normalised. */
#include "device/cuda/rows.cuh"

template <typename Y, typename N, int V, bool WIDE>
static __global__ void __launch_bounds__(NV_MOST_THREADS) seam_rows(const __grid_constant__ nv_seam a) {
    enum { PIECES = NV_HELD / V };
    const int dim = (int)a.dim, team = (int)blockDim.x;
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const bool live = row < a.rows;
    const int64_t group = live ? (uint32_t)row / (uint32_t)a.group_rows : 0;
    float *x = a.x + row * dim;
    float v[PIECES][V];
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int column = (p * team + (int)threadIdx.x) * V;
#pragma unroll
        for (int i = 0; i < V; i++)
            v[p][i] = 0.0f;
        if (live && column < dim) nv_load<V, WIDE>(x + column, v[p]);
    }
    if (a.y.data && live) {
        const float *gate = a.gate ? a.gate + group * a.gate_stride : NULL;
        float y[PIECES][V];
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            const int column = (p * team + (int)threadIdx.x) * V;
            if (column < dim) nv_load<V, WIDE>(nv_row<Y>(a.y, row) + column, y[p]);
        }
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            const int column = (p * team + (int)threadIdx.x) * V;
            if (column >= dim) continue;
            float factor[V];
            if (gate) nv_recall<V, WIDE>(gate + column, factor);
#pragma unroll
            for (int i = 0; i < V; i++)
                v[p][i] += gate ? y[p][i] * factor[i] : y[p][i];
            nv_store<V, WIDE>(x + column, v[p]);
        }
    }
    if (!a.n.data) return;

    float mean = 0.0f, rstd = 1.0f;
    if (a.normalise) {
        float sum[1] = {0.0f}, squares[1] = {0.0f};
#pragma unroll
        for (int p = 0; p < PIECES; p++)
#pragma unroll
            for (int i = 0; i < V; i++)
                sum[0] += v[p][i];
        nv_team_sum(sum);
        mean = sum[0] / (float)dim;
#pragma unroll
        for (int p = 0; p < PIECES; p++)
#pragma unroll
            for (int i = 0; i < V; i++) {
                const float from = (p * team + (int)threadIdx.x) * V < dim ? v[p][i] - mean : 0.0f;
                squares[0] += from * from;
            }
        nv_team_sum(squares);
        rstd = 1.0f / sqrtf(squares[0] / (float)dim + a.eps);
    }
    if (!live) return;

    const float *gain = a.gain + group * a.gain_stride, *shift = a.shift + group * a.gain_stride;
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int column = (p * team + (int)threadIdx.x) * V;
        if (column >= dim) continue;
        if (a.normalise) {
            float g[V], s[V];
            nv_recall<V, WIDE>(gain + column, g);
            nv_recall<V, WIDE>(shift + column, s);
#pragma unroll
            for (int i = 0; i < V; i++)
                v[p][i] = (v[p][i] - mean) * rstd;
            if (a.xhat) nv_store<V, WIDE>((N *)a.xhat + row * dim + column, v[p]);
#pragma unroll
            for (int i = 0; i < V; i++)
                v[p][i] = v[p][i] * (g[i] + a.gain_offset) + s[i];
        }
        nv_store<V, WIDE>(nv_row<N>(a.n, row) + column, v[p]);
    }
    if (a.normalise && a.rstd && threadIdx.x == 0) a.rstd[row] = rstd;
}

template <typename Y, typename N> static void launch(const nv_seam *a, void *stream) {
    enum { V = 4 };
    const bool wide = a->dim % V == 0 && nv_on_boundary(a->x, NABLA_FP32, V) && nv_wide(a->y, V) && nv_wide(a->n, V) &&
                      nv_on_boundary(a->gate, NABLA_FP32, V) && a->gate_stride % V == 0 &&
                      nv_on_boundary(a->gain, NABLA_FP32, V) && nv_on_boundary(a->shift, NABLA_FP32, V) &&
                      a->gain_stride % V == 0 && nv_on_boundary(a->xhat, a->n.dtype, V);
    const dim3 block = nv_team_block(a->dim);
    const unsigned blocks = (unsigned)nv_groups(a->rows, block.y);
    if (wide)
        NABLA_LAUNCH((seam_rows<Y, N, V, true>), blocks, block, 0, stream)(*a);
    else
        NABLA_LAUNCH((seam_rows<Y, N, 1, false>), blocks, block, 0, stream)(*a);
}

nabla_status nv_cuda_seam(nv_device *dev, const nv_seam *a, nv_error *err) {
    if (a->rows == 0) return NABLA_OK;
    NV_TRY(nv_check_rows(a->rows, a->dim, "a seam", err));
    void *stream = nv_cuda_of(dev)->stream;
    const bool y_bf16 = a->y.data && a->y.dtype == NABLA_BF16, n_bf16 = a->n.data && a->n.dtype == NABLA_BF16;
    if (y_bf16 && n_bf16)
        launch<__nv_bfloat16, __nv_bfloat16>(a, stream);
    else if (y_bf16)
        launch<__nv_bfloat16, float>(a, stream);
    else if (n_bf16)
        launch<float, __nv_bfloat16>(a, stream);
    else
        launch<float, float>(a, stream);
    return nv_cuda_launched(err, "a seam");
}

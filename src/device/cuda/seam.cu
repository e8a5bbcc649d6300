/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between two branches: a team of threads holds the row from its sum with y until it is normalised. */
#include "device/cuda/rows.cuh"

/* What v's numbers are from their mean, and 1 / sqrt(their variance + eps), which is returned. */
template <typename F> NV_FN float normalise(nv_held<F> &v, int dim, int cols, float eps) {
    float sum[1] = {0.0f}, squares[1] = {0.0f};
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            sum[0] += v.at[p][i];
    nv_team_sum<F>(sum);
    const float mean = sum[0] / (float)dim;
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++) {
            v.at[p][i] = nv_mine<F>(p, cols) ? v.at[p][i] - mean : 0.0f;
            squares[0] += v.at[p][i] * v.at[p][i];
        }
    nv_team_sum<F>(squares);
    return 1.0f / sqrtf(squares[0] / (float)dim + eps);
}

template <typename Y, typename N, typename F>
static __global__ void __launch_bounds__(NV_MOST_THREADS) seam_rows(const __grid_constant__ nv_seam a) {
    const int cols = nv_team_columns<F>(a.rows, a.dim);
    const int64_t row = nv_team_row(), group = (uint32_t)row / (uint32_t)a.group_rows;
    float *x = a.x + row * a.dim;
    nv_held<F> v, y;
    nv_load_row<F>((const float *)x, cols, v);
    if (a.y.data) {
        nv_load_row<F>(nv_row<const Y>(a.y, row), cols, y);
        if (a.gate) {
            nv_held<F> gate;
            nv_recall_row<F>(a.gate + group * a.gate_stride, cols, gate);
#pragma unroll
            for (int p = 0; p < F::PIECES; p++)
#pragma unroll
                for (int i = 0; i < F::V; i++)
                    y.at[p][i] *= gate.at[p][i];
        }
#pragma unroll
        for (int p = 0; p < F::PIECES; p++)
#pragma unroll
            for (int i = 0; i < F::V; i++)
                v.at[p][i] += y.at[p][i];
        nv_store_row<F>(x, cols, v);
    }
    if (!a.n.data) return;

    if (a.normalise) {
        nv_held<F> gain, shift;
        const float rstd = normalise<F>(v, (int)a.dim, cols, a.eps);
        nv_recall_row<F>(a.gain + group * a.gain_stride, cols, gain);
        nv_recall_row<F>(a.shift + group * a.gain_stride, cols, shift);
#pragma unroll
        for (int p = 0; p < F::PIECES; p++)
#pragma unroll
            for (int i = 0; i < F::V; i++)
                v.at[p][i] *= rstd;
        if (a.xhat) nv_store_row<F>((N *)a.xhat + row * a.dim, cols, v);
        if (a.rstd && threadIdx.x == 0 && cols) a.rstd[row] = rstd;
#pragma unroll
        for (int p = 0; p < F::PIECES; p++)
#pragma unroll
            for (int i = 0; i < F::V; i++)
                v.at[p][i] = v.at[p][i] * (gain.at[p][i] + a.gain_offset) + shift.at[p][i];
    }
    nv_store_row<F>(nv_row<N>(a.n, row), cols, v);
}

template <typename Y, typename N> static void launch(const nv_seam *a, void *stream) {
    enum { V = 4 };
    const bool wide = a->dim % V == 0 && nv_on_boundary(a->x, NABLA_FP32, V) && nv_wide(a->y, V) && nv_wide(a->n, V) &&
                      nv_on_boundary(a->gate, NABLA_FP32, V) && a->gate_stride % V == 0 &&
                      nv_on_boundary(a->gain, NABLA_FP32, V) && nv_on_boundary(a->shift, NABLA_FP32, V) &&
                      a->gain_stride % V == 0 && nv_on_boundary(a->xhat, a->n.dtype, V);
    nv_launch_rows(seam_rows<Y, N, nv_fit<V, true, true>>, seam_rows<Y, N, nv_fit<V, true, false>>,
                   seam_rows<Y, N, nv_fit<1, false, false>>, wide, a->rows, a->dim, *a, stream);
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

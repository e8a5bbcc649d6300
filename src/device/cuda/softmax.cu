/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax over rows with a bias by distance. Rows up to NV_MOST_COLUMNS are held by a team; longer ones are read twice.
 */
#include "device/cuda/rows.cuh"

#include <float.h>

typedef struct softmax_args {
    nv_matrix s, p;
    float scale;
    const float *bias;
} softmax_args;

NV_FN float score_at(const softmax_args &k, float s, int64_t row, int64_t column) {
    return k.bias ? s * k.scale + __ldg(k.bias + (column - row + k.s.rows - 1)) : s * k.scale;
}

template <typename T, typename F>
static __global__ void __launch_bounds__(NV_MOST_THREADS) softmax_rows(const __grid_constant__ softmax_args k) {
    const int cols = nv_team_columns<F>(k.s.rows, k.s.cols);
    const int64_t row = nv_team_row();
    nv_held<F> v;
    float most = -INFINITY, sum[1] = {0.0f};
    nv_load_row<F>(nv_row<const float>(k.s, row), cols, v);
#pragma unroll
    for (int p = 0; p < F::PIECES; p++) {
        if (!nv_mine<F>(p, cols)) continue;
#pragma unroll
        for (int i = 0; i < F::V; i++) {
            v.at[p][i] = score_at(k, v.at[p][i], row, nv_column<F>(p) + i);
            most = fmaxf(most, v.at[p][i]);
        }
    }
    most = nv_team_most<F>(most);
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++) {
            v.at[p][i] = nv_mine<F>(p, cols) ? __expf(v.at[p][i] - most) : 0.0f;
            sum[0] += v.at[p][i];
        }
    nv_team_sum<F>(sum);
    const float share = 1.0f / sum[0];
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            v.at[p][i] *= share;
    nv_store_row<F>(nv_row<T>(k.p, row), cols, v);
}

/* A thread block a row: first the largest score so far and the sum of exponentials below it, then the probabilities. */
template <typename T>
static __global__ void __launch_bounds__(NV_MOST_THREADS) softmax_long_rows(const __grid_constant__ softmax_args k) {
    const int64_t row = blockIdx.x;
    const float *s = nv_row<const float>(k.s, row);
    float most = -FLT_MAX, sum[1] = {0.0f}; /* finite: its difference from a score of -INFINITY is one */
    for (int64_t column = threadIdx.x; column < k.s.cols; column += NV_MOST_THREADS) {
        const float score = score_at(k, s[column], row, column), before = most;
        most = fmaxf(most, score);
        sum[0] = sum[0] * __expf(before - most) + __expf(score - most);
    }
    const float all = nv_team_most<nv_fit<1, false, true>>(most);
    sum[0] *= __expf(most - all);
    nv_team_sum<nv_fit<1, false, true>>(sum);
    const float share = 1.0f / sum[0];
    for (int64_t column = threadIdx.x; column < k.s.cols; column += NV_MOST_THREADS)
        nv_from_float(__expf(score_at(k, s[column], row, column) - all) * share, nv_row<T>(k.p, row) + column);
}

template <typename T> static void launch(const softmax_args *k, void *stream) {
    enum { V = 4 };
    if (k->s.cols > NV_MOST_COLUMNS)
        NABLA_LAUNCH(softmax_long_rows<T>, (unsigned)k->s.rows, NV_MOST_THREADS, 0, stream)(*k);
    else
        nv_launch_rows(softmax_rows<T, nv_fit<V, true, true>>, softmax_rows<T, nv_fit<V, true, false>>,
                       softmax_rows<T, nv_fit<1, false, false>>, nv_wide(k->s, V) && nv_wide(k->p, V), k->s.rows,
                       k->s.cols, *k, stream);
}

nabla_status nv_cuda_softmax(nv_device *dev, nv_matrix s, float scale, const float *bias, nv_matrix p, nv_error *err) {
    const softmax_args k = {s, p, scale, bias};
    if (s.rows == 0 || s.cols == 0) return NABLA_OK;
    if (s.rows > INT32_MAX)
        return nv_fail(err, NABLA_UNSUPPORTED, "a softmax over %lld rows: the GPU takes up to %d at a time",
                       (long long)s.rows, INT32_MAX);
    if (p.dtype == NABLA_BF16)
        launch<__nv_bfloat16>(&k, nv_cuda_of(dev)->stream);
    else
        launch<float>(&k, nv_cuda_of(dev)->stream);
    return nv_cuda_launched(err, "a softmax");
}

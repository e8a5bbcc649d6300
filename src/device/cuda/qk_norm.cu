/* SPDX-License-Identifier: Apache-2.0 */
/* The norm of queries and keys over all heads and the turning of their pairs. A piece holds whole pairs of one head. */
#include "device/cuda/sums.cuh"

enum { WEIGHT, BIAS };

/* Turns a row's pairs by its token's angles; sign -1 turns them back. */
template <typename F> NV_FN void turn(const nv_qk_norm &a, int64_t row, int cols, float sign, nv_held<F> &v) {
    const int head_dim = (int)a.x.cols / a.heads;
    const float *angles = a.rope + (int64_t)((uint32_t)row % (uint32_t)a.tokens) * head_dim;
#pragma unroll
    for (int p = 0; p < F::PIECES; p++) {
        if (!nv_mine<F>(p, cols)) continue;
        float turns[F::V];
        nv_recall<F::V, F::WIDE>(angles + (uint32_t)nv_column<F>(p) % (uint32_t)head_dim, turns);
#pragma unroll
        for (int i = 0; i < F::V; i += 2) {
            const float x = v.at[p][i], y = v.at[p][i + 1], cosine = turns[i], sine = sign * turns[i + 1];
            v.at[p][i] = x * cosine - y * sine;
            v.at[p][i + 1] = y * cosine + x * sine;
        }
    }
}

template <typename T, typename F>
static __global__ void __launch_bounds__(NV_MOST_THREADS) qk_norm_rows(const __grid_constant__ nv_qk_norm a) {
    const int cols = nv_team_columns<F>(a.x.rows, a.x.cols);
    const int64_t row = nv_team_row();
    nv_held<F> v, weight;
    nv_load_row<F>(nv_row<const T>(a.x, row), cols, v);
    nv_recall_row<F>(a.weight, cols, weight);
    const float rstd = 1.0f / sqrtf(nv_team_squares<F>(v) / (float)a.x.cols + a.eps);
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            v.at[p][i] *= rstd * weight.at[p][i];
    if (a.rope) turn(a, row, cols, 1.0f, v);
    nv_store_row<F>(nv_row<T>(a.y, row), cols, v);
    if (a.rstd && threadIdx.x == 0 && cols) a.rstd[row] = rstd;
}

typedef struct qk_backward_args {
    nv_qk_norm a;
    nv_matrix d_y, d_x;
} qk_backward_args;

/* The bound keeps it to 64 registers a thread, so that three rows of 5120 are under way on a multiprocessor. */
template <typename T, typename F>
static __global__ void __launch_bounds__(NV_MOST_THREADS)
    qk_norm_backward_rows(const __grid_constant__ qk_backward_args k, const __grid_constant__ nv_chunked c) {
    NABLA_LAUNCH_SHARED(memory, 16);
    float *sums = (float *)memory;
    nv_clear_sums(c, sums);
    const int dim = c.dim, chunk = (int)blockIdx.x, last = nv_chunk_last(c, chunk);
    for (int64_t row = nv_chunk_first(c, chunk); row < last; row++) {
        const float rstd = k.a.rstd[row];
        nv_held<F> xhat, d, product, weight;
        nv_load_row<F>(nv_row<const T>(k.a.x, row), dim, xhat);
        nv_load_row<F>(nv_row<const T>(k.d_y, row), dim, d);
        if (k.a.rope) turn(k.a, row, dim, -1.0f, d);
#pragma unroll
        for (int p = 0; p < F::PIECES; p++)
#pragma unroll
            for (int i = 0; i < F::V; i++) {
                xhat.at[p][i] *= rstd;
                product.at[p][i] = d.at[p][i] * xhat.at[p][i];
            }
        nv_sum_row<F>(c, sums, WEIGHT, product);
        nv_recall_row<F>(k.a.weight, dim, weight);
        float along[1] = {0.0f};
#pragma unroll
        for (int p = 0; p < F::PIECES; p++)
#pragma unroll
            for (int i = 0; i < F::V; i++) {
                d.at[p][i] *= weight.at[p][i];
                along[0] += d.at[p][i] * xhat.at[p][i];
            }
        nv_team_sum<F>(along);
        const float mean = along[0] / (float)dim;
#pragma unroll
        for (int p = 0; p < F::PIECES; p++)
#pragma unroll
            for (int i = 0; i < F::V; i++)
                d.at[p][i] = (d.at[p][i] - xhat.at[p][i] * mean) * rstd;
        nv_store_row<F>(nv_row<T>(k.d_x, row), dim, d);
        nv_sum_row<F>(c, sums, BIAS, d);
    }
    nv_keep_sums<F>(c, chunk, sums);
}

/* Whether pieces of V may be wide, but for gradients. */
static bool wide_norm(const nv_qk_norm *a, int V) {
    return nv_wide(a->x, V) && nv_wide(a->y, V) && a->x.cols / a->heads % V == 0 &&
           nv_on_boundary(a->weight, NABLA_FP32, V) && nv_on_boundary(a->rope, NABLA_FP32, V);
}

static nabla_status check_pairs(const nv_qk_norm *a, nv_error *err) {
    if (a->x.cols % a->heads || a->x.cols / a->heads % 2)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%lld columns are not %d heads of pairs", (long long)a->x.cols,
                       (int)a->heads);
    return NABLA_OK;
}

template <typename T, int V> static void launch(const nv_qk_norm *a, void *stream) {
    nv_launch_rows(qk_norm_rows<T, nv_fit<V, true, true>>, qk_norm_rows<T, nv_fit<V, true, false>>,
                   qk_norm_rows<T, nv_fit<2, false, false>>, wide_norm(a, V), a->x.rows, a->x.cols, *a, stream);
}

nabla_status nv_cuda_qk_norm(nv_device *dev, const nv_qk_norm *a, nv_error *err) {
    if (a->x.rows == 0) return NABLA_OK;
    NV_TRY(nv_check_rows(a->x.rows, a->x.cols, "a norm of queries and keys", err));
    NV_TRY(check_pairs(a, err));
    if (a->x.dtype == NABLA_BF16)
        launch<__nv_bfloat16, 8>(a, nv_cuda_of(dev)->stream);
    else
        launch<float, 4>(a, nv_cuda_of(dev)->stream);
    return nv_cuda_launched(err, "a norm of queries and keys");
}

template <typename T, int V> static void launch_backward(const qk_backward_args *k, const nv_chunked *c, void *stream) {
    const bool wide = wide_norm(&k->a, V) && nv_wide(k->d_y, V) && nv_wide(k->d_x, V);
    nv_launch_summed(qk_norm_backward_rows<T, nv_fit<V, true, true>>, qk_norm_backward_rows<T, nv_fit<V, true, false>>,
                     qk_norm_backward_rows<T, nv_fit<2, false, false>>, wide, *k, *c, stream);
}

nabla_status nv_cuda_qk_norm_backward(nv_device *dev, const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x,
                                      float *d_weight, float *d_bias, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    const qk_backward_args k = {*a, d_y, d_x};
    nv_sums sums = {};
    nv_chunked c;
    if (a->x.rows == 0) return NABLA_OK;
    NV_TRY(nv_check_summed(a->x.rows, a->x.cols, "a norm of queries and keys backwards", err));
    NV_TRY(check_pairs(a, err));
    sums.to[WEIGHT] = d_weight;
    sums.to[BIAS] = d_bias;
    NV_TRY(nv_cuda_chunk(d, a->x.rows, a->x.rows, a->x.cols, NV_PIECES, 16, &sums, &c, err));
    if (a->x.dtype == NABLA_BF16)
        launch_backward<__nv_bfloat16, 8>(&k, &c, d->stream);
    else
        launch_backward<float, 4>(&k, &c, d->stream);
    nv_cuda_add_chunks(d, &c);
    return nv_cuda_launched(err, "a norm of queries and keys backwards");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The norm of queries and keys over all heads and the turning of their pairs. A piece holds whole pairs of one head. */
#include "device/cuda/sums.cuh"

enum { WEIGHT, BIAS };

/* Where a row's angles are; NULL: it is not turned. */
NV_FN const float *angles_of(const nv_qk_norm &a, int64_t row) {
    if (!a.rope) return NULL;
    return a.rope + (int64_t)((uint32_t)row % (uint32_t)a.tokens) * (a.x.cols / a.heads);
}

/* Turns the pairs of a piece at `column`; sign -1 turns them back. */
template <int V, bool WIDE> NV_FN void turn(float (&v)[V], const float *angles, int column, int head_dim, float sign) {
    if (!angles) return;
    float turns[V];
    nv_recall<V, WIDE>(angles + column % head_dim, turns);
#pragma unroll
    for (int i = 0; i < V; i += 2) {
        const float x = v[i], y = v[i + 1], cosine = turns[i], sine = sign * turns[i + 1];
        v[i] = x * cosine - y * sine;
        v[i + 1] = y * cosine + x * sine;
    }
}

template <typename T, int V, bool WIDE>
static __global__ void __launch_bounds__(NV_MOST_THREADS) qk_norm_rows(const __grid_constant__ nv_qk_norm a) {
    enum { PIECES = NV_HELD / V };
    const int dim = (int)a.x.cols, team = (int)blockDim.x, head_dim = dim / a.heads;
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const bool live = row < a.x.rows;
    float v[PIECES][V], squares[1] = {0.0f};
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int column = (p * team + (int)threadIdx.x) * V;
#pragma unroll
        for (int i = 0; i < V; i++)
            v[p][i] = 0.0f;
        if (live && column < dim) nv_load<V, WIDE>(nv_row<T>(a.x, row) + column, v[p]);
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++)
#pragma unroll
        for (int i = 0; i < V; i++)
            squares[0] += v[p][i] * v[p][i];
    nv_team_sum(squares);
    if (!live) return;

    const float rstd = 1.0f / sqrtf(squares[0] / (float)dim + a.eps);
    const float *angles = angles_of(a, row);
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int column = (p * team + (int)threadIdx.x) * V;
        if (column >= dim) continue;
        float weight[V];
        nv_recall<V, WIDE>(a.weight + column, weight);
#pragma unroll
        for (int i = 0; i < V; i++)
            v[p][i] = v[p][i] * rstd * weight[i];
        turn<V, WIDE>(v[p], angles, column, head_dim, 1.0f);
        nv_store<V, WIDE>(nv_row<T>(a.y, row) + column, v[p]);
    }
    if (a.rstd && threadIdx.x == 0) a.rstd[row] = rstd;
}

typedef struct qk_backward_args {
    nv_qk_norm a;
    nv_matrix d_y, d_x;
} qk_backward_args;

template <typename T, int V, bool WIDE>
static __global__ void __launch_bounds__(NV_SUMMED_THREADS)
    qk_norm_backward_rows(const __grid_constant__ qk_backward_args k, const __grid_constant__ nv_chunked c) {
    enum { PIECES = NV_HELD / V };
    NABLA_LAUNCH_SHARED(memory, 16);
    float *sums = (float *)memory;
    nv_clear_sums(c, sums);
    const int dim = c.dim, chunk = (int)blockIdx.x, last = nv_chunk_last(c, chunk), head_dim = dim / k.a.heads;
    for (int64_t row = nv_chunk_first(c, chunk); row < last; row++) {
        const float *angles = angles_of(k.a, row);
        const float rstd = k.a.rstd[row];
        float x[PIECES][V], d[PIECES][V], along[1] = {0.0f};
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            const int column = (p * (int)blockDim.x + (int)threadIdx.x) * V;
            if (column >= dim) continue;
            nv_load<V, WIDE>(nv_row<T>(k.a.x, row) + column, x[p]);
            nv_load<V, WIDE>(nv_row<T>(k.d_y, row) + column, d[p]);
        }
        /* x becomes xhat, d the gradient of what was turned times the weight */
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            const int column = (p * (int)blockDim.x + (int)threadIdx.x) * V;
            if (column >= dim) continue;
            float weight[V], product[V];
            nv_recall<V, WIDE>(k.a.weight + column, weight);
            turn<V, WIDE>(d[p], angles, column, head_dim, -1.0f);
#pragma unroll
            for (int i = 0; i < V; i++) {
                x[p][i] *= rstd;
                product[i] = d[p][i] * x[p][i];
                along[0] += product[i] * weight[i];
                d[p][i] *= weight[i];
            }
            nv_sum_piece<V, WIDE>(sums + c.at[WEIGHT] * dim, column, dim, product);
        }
        nv_team_sum(along);
        const float mean = along[0] / (float)dim;
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            const int column = (p * (int)blockDim.x + (int)threadIdx.x) * V;
            if (column >= dim) continue;
#pragma unroll
            for (int i = 0; i < V; i++)
                d[p][i] = (d[p][i] - x[p][i] * mean) * rstd;
            nv_store<V, WIDE>(nv_row<T>(k.d_x, row) + column, d[p]);
            if (c.at[BIAS] >= 0) nv_sum_piece<V, WIDE>(sums + c.at[BIAS] * dim, column, dim, d[p]);
        }
    }
    nv_keep_sums<V, WIDE>(c, chunk, sums);
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
    const dim3 block = nv_team_block(a->x.cols);
    const unsigned blocks = (unsigned)nv_groups(a->x.rows, block.y);
    if (wide_norm(a, V))
        NABLA_LAUNCH((qk_norm_rows<T, V, true>), blocks, block, 0, stream)(*a);
    else
        NABLA_LAUNCH((qk_norm_rows<T, 2, false>), blocks, block, 0, stream)(*a);
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
    if (wide_norm(&k->a, V) && nv_wide(k->d_y, V) && nv_wide(k->d_x, V))
        nv_launch_summed(qk_norm_backward_rows<T, V, true>, *k, *c, stream);
    else
        nv_launch_summed(qk_norm_backward_rows<T, 2, false>, *k, *c, stream);
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

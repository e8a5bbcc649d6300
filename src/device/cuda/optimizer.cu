/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer: a thread block a piece, all tensors in one launch. */
#include "device/cuda/rows.cuh"
#include <math.h>

enum { PIECE_THREADS = 256, TOTAL_THREADS = 1024 };

/* ---- sum of squares: pieces in fp64, then the pieces in a fixed order */

/* The sum over the thread block, in a fixed order; thread 0 gets it. */
template <int THREADS> NV_FN double block_total(double x) {
    __shared__ double room[THREADS];
    room[threadIdx.x] = x;
    for (int step = THREADS / 2; step; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < step) room[threadIdx.x] += room[threadIdx.x + step];
    }
    return room[0];
}

template <int V, bool WIDE> NV_FN double squares_of(const float *x, int32_t n) {
    double sum = 0.0;
#pragma unroll 4
    for (int32_t i = (int32_t)threadIdx.x * V; i < n; i += PIECE_THREADS * V) {
        float v[V];
        nv_load<V, WIDE>(x + i, v);
#pragma unroll
        for (int j = 0; j < V; j++)
            sum += (double)v[j] * (double)v[j];
    }
    return sum;
}

/* Whether vectors of four may be used. */
NV_FN bool is_wide(const nv_piece &p) {
    const uintptr_t places =
        (uintptr_t)p.value | (uintptr_t)p.grad | (uintptr_t)p.m | (uintptr_t)p.v | (uintptr_t)p.ema;
    return p.count % 4 == 0 && places % 16 == 0;
}

static __global__ void __launch_bounds__(PIECE_THREADS) squares_of_pieces(const nv_piece *pieces, double *sums) {
    const nv_piece p = pieces[blockIdx.x];
    const double sum = block_total<PIECE_THREADS>(is_wide(p) ? squares_of<4, true>(p.grad, p.count)
                                                             : squares_of<1, false>(p.grad, p.count));
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(TOTAL_THREADS)
    total_of_pieces(const double *sums, int64_t pieces, double *total) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < pieces; i += TOTAL_THREADS)
        sum += sums[i];
    sum = block_total<TOTAL_THREADS>(sum);
    if (threadIdx.x == 0) *total = sum;
}

static nabla_status check_count(int64_t count, nv_error *err) {
    if (count <= INT32_MAX) return NABLA_OK;
    return nv_fail(err, NABLA_UNSUPPORTED, "an optimizer of %lld pieces is more than a GPU takes at a time",
                   (long long)count);
}

nabla_status nv_cuda_sum_squares(nv_device *dev, const nv_piece *pieces, int64_t count, double *sum, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    void *scratch;
    NV_TRY(check_count(count, err));
    NV_TRY(nv_cuda_scratch(d, (size_t)(count + 1) * sizeof(double), &scratch, err));
    double *sums = (double *)scratch;
    if (count) NABLA_LAUNCH(squares_of_pieces, (unsigned)count, PIECE_THREADS, 0, d->stream)(pieces, sums);
    NABLA_LAUNCH(total_of_pieces, 1, TOTAL_THREADS, 0, d->stream)(sums, count, sum);
    return nv_cuda_launched(err, "a sum of squares");
}

/* ---- AdamW */

template <int V, bool WIDE>
NV_FN void adamw_of(const nv_adamw &a, const nv_adamw_numbers &now, const nv_piece &p, float scale) {
    const float keep = 1.0f - now.lr * p.weight_decay;
    const float none[V] = {};
#pragma unroll 2
    for (int32_t at = (int32_t)threadIdx.x * V; at < p.count; at += PIECE_THREADS * V) {
        float value[V], grad[V], m[V], v[V], ema[V];
        nv_load<V, WIDE>((const float *)p.value + at, value);
        nv_load<V, WIDE>((const float *)p.grad + at, grad);
        nv_load<V, WIDE>((const float *)p.m + at, m);
        nv_load<V, WIDE>((const float *)p.v + at, v);
        nv_load<V, WIDE>((const float *)p.ema + at, ema);
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float g = grad[i] * scale;
            m[i] = a.beta1 * m[i] + (1.0f - a.beta1) * g;
            v[i] = a.beta2 * v[i] + (1.0f - a.beta2) * g * g;
            value[i] = keep * value[i] - now.lr * (m[i] * now.m_scale) / (sqrtf(v[i] * now.v_scale) + a.eps);
            ema[i] += (1.0f - now.ema_decay) * (value[i] - ema[i]);
        }
        nv_store<V, WIDE>(p.value + at, value);
        nv_store<V, WIDE>(p.m + at, m);
        nv_store<V, WIDE>(p.v + at, v);
        nv_store<V, WIDE>(p.ema + at, ema);
        nv_store<V, WIDE>(p.grad + at, none);
    }
}

static __global__ void __launch_bounds__(PIECE_THREADS)
    adamw_of_pieces(const __grid_constant__ nv_adamw a, const nv_piece *pieces) {
    const double squares = *a.squares, norm = (double)a.grad_scale * sqrt(squares);
    if (!(squares < (double)INFINITY)) return; /* NaN too */
    const bool clipped = a.clip > 0.0f && norm > (double)a.clip;
    const float scale = a.grad_scale * (clipped ? (float)((double)a.clip / norm) : 1.0f);
    const nv_piece p = pieces[blockIdx.x];
    const nv_adamw_numbers now = *a.numbers;
    if (is_wide(p))
        adamw_of<4, true>(a, now, p, scale);
    else
        adamw_of<1, false>(a, now, p, scale);
}

nabla_status nv_cuda_adamw(nv_device *dev, const nv_adamw *a, const nv_piece *pieces, int64_t count, nv_error *err) {
    NV_TRY(check_count(count, err));
    if (count == 0) return NABLA_OK;
    NABLA_LAUNCH(adamw_of_pieces, (unsigned)count, PIECE_THREADS, 0, nv_cuda_of(dev)->stream)(*a, pieces);
    return nv_cuda_launched(err, "an optimizer step");
}

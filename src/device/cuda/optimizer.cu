/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over long flat arrays. */
#include "device/cuda/cells.cuh"

/* ---- sum of squares: pieces of fixed length in fp64, then the pieces in a fixed order */

enum { SQUARES_THREADS = 256, SQUARES_PIECE = 1 << 16, TOTAL_THREADS = 1024 };

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

template <int V, bool WIDE>
static __global__ void __launch_bounds__(SQUARES_THREADS) squares_of_pieces(const float *x, int64_t n, double *sums) {
    const int64_t first = (int64_t)blockIdx.x * SQUARES_PIECE,
                  last = first + SQUARES_PIECE < n ? first + SQUARES_PIECE : n;
    double sum = 0.0;
#pragma unroll 4
    for (int64_t i = first + (int64_t)threadIdx.x * V; i < last; i += SQUARES_THREADS * V) {
        float v[V];
        nv_load<V, WIDE>(x + i, v);
#pragma unroll
        for (int j = 0; j < V; j++)
            sum += (double)v[j] * (double)v[j];
    }
    sum = block_total<SQUARES_THREADS>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/* sums[pieces] = the sum of what is before it */
static __global__ void __launch_bounds__(TOTAL_THREADS) total_of_pieces(double *sums, int64_t pieces) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < pieces; i += TOTAL_THREADS)
        sum += sums[i];
    sum = block_total<TOTAL_THREADS>(sum);
    if (threadIdx.x == 0) sums[pieces] = sum;
}

nabla_status nv_cuda_sum_squares(nv_device *dev, const float *x, size_t n, double *sum, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    const int64_t pieces = nv_groups((int64_t)n, SQUARES_PIECE);
    void *scratch;
    *sum = 0.0;
    if (n == 0) return NABLA_OK;
    NV_TRY(nv_cuda_scratch(d, (size_t)(pieces + 1) * sizeof(double), &scratch, err));
    double *sums = (double *)scratch;
    if (n % 4 == 0 && nv_on_boundary(x, NABLA_FP32, 4))
        NABLA_LAUNCH((squares_of_pieces<4, true>), (unsigned)pieces, SQUARES_THREADS, 0, d->stream)
    (x, (int64_t)n, sums);
    else NABLA_LAUNCH((squares_of_pieces<1, false>), (unsigned)pieces, SQUARES_THREADS, 0, d->stream)(x, (int64_t)n,
                                                                                                      sums);
    NABLA_LAUNCH(total_of_pieces, 1, TOTAL_THREADS, 0, d->stream)(sums, pieces);
    cudaMemcpyAsync(sum, sums + pieces, sizeof *sum, cudaMemcpyDeviceToHost, (cudaStream_t)d->stream);
    cudaStreamSynchronize((cudaStream_t)d->stream);
    return nv_cuda_launched(err, "a sum of squares");
}

/* ---- AdamW */

template <int V, bool WIDE> struct adamw_body {
    struct piece {
        float value[V], grad[V], m[V], v[V], ema[V];
    };
    nv_adamw a;
    float m_scale, v_scale, keep;
    float *value;
    const float *grad;
    float *m, *v, *ema;

    __device__ void load(piece &p, int64_t, int64_t at) const {
        nv_load<V, WIDE>((const float *)value + at, p.value);
        nv_load<V, WIDE>(grad + at, p.grad);
        nv_load<V, WIDE>((const float *)m + at, p.m);
        nv_load<V, WIDE>((const float *)v + at, p.v);
        if (ema) nv_load<V, WIDE>((const float *)ema + at, p.ema);
    }
    __device__ void store(piece &p, int64_t, int64_t at) const {
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float g = p.grad[i] * a.grad_scale;
            p.m[i] = a.beta1 * p.m[i] + (1.0f - a.beta1) * g;
            p.v[i] = a.beta2 * p.v[i] + (1.0f - a.beta2) * g * g;
            p.value[i] = keep * p.value[i] - a.lr * (p.m[i] * m_scale) / (sqrtf(p.v[i] * v_scale) + a.eps);
            if (ema) p.ema[i] += (1.0f - a.ema_decay) * (p.value[i] - p.ema[i]);
        }
        nv_store<V, WIDE>(value + at, p.value);
        nv_store<V, WIDE>(m + at, p.m);
        nv_store<V, WIDE>(v + at, p.v);
        if (ema) nv_store<V, WIDE>(ema + at, p.ema);
    }
};

nabla_status nv_cuda_adamw(nv_device *dev, const nv_adamw *a, size_t n, float *value, const float *grad, float *m,
                           float *v, float *ema, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    const float m_scale = (float)(1.0 / (1.0 - pow((double)a->beta1, (double)a->step)));
    const float v_scale = (float)(1.0 / (1.0 - pow((double)a->beta2, (double)a->step)));
    const float keep = 1.0f - a->lr * a->weight_decay;
    const uintptr_t places = (uintptr_t)value | (uintptr_t)grad | (uintptr_t)m | (uintptr_t)v | (uintptr_t)ema;
    if (n % 4 == 0 && places % 16 == 0)
        return nv_over_cells<4>(adamw_body<4, true>{*a, m_scale, v_scale, keep, value, grad, m, v, ema}, 1, (int64_t)n,
                                stream, "an optimizer step", err);
    return nv_over_cells<1>(adamw_body<1, false>{*a, m_scale, v_scale, keep, value, grad, m, v, ema}, 1, (int64_t)n,
                            stream, "an optimizer step", err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The seam backwards: a thread block walks a chunk of rows, each held by all of its threads, and keeps the sums of four
   gradients of parameters in shared memory. */
#include "device/cuda/sums.cuh"

enum { GAIN, SHIFT, GATE, BIAS };

typedef struct seam_backward_args {
    nv_seam a;
    nv_seam_grad g;
} seam_backward_args;

template <typename F> NV_FN void multiply(nv_held<F> &x, const nv_held<F> &y) {
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            x.at[p][i] *= y.at[p][i];
}

template <typename F> NV_FN void multiply(nv_held<F> &x, float y) {
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            x.at[p][i] *= y;
}

/* d norm(x) = rstd * (h - mean(h) - xhat * mean(h xhat)) with h = d_n * gain: d, which is d_n, becomes that. */
template <typename F>
NV_FN void norm_backward(const seam_backward_args &k, const nv_chunked &c, float *sums, const float *gains, float rstd,
                         const nv_held<F> &xhat, nv_held<F> &d) {
    float total[2] = {0.0f, 0.0f};
    nv_sum_row<F>(c, sums, SHIFT, d);
    if (c.at[GAIN] >= 0) {
        nv_held<F> product = d;
        multiply(product, xhat);
        nv_sum_row<F>(c, sums, GAIN, product);
    }
    nv_held<F> gain;
    nv_recall_row<F>(gains, c.dim, gain);
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++) {
            d.at[p][i] *= gain.at[p][i] + k.a.gain_offset;
            total[0] += d.at[p][i];
            total[1] += d.at[p][i] * xhat.at[p][i];
        }
    nv_team_sum<F>(total);
    const float mean = total[0] / (float)c.dim, along = total[1] / (float)c.dim;
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            d.at[p][i] = (d.at[p][i] - mean - xhat.at[p][i] * along) * rstd;
}

template <typename Y, typename N, typename F>
static __global__ void __launch_bounds__(NV_SUMMED_THREADS)
    seam_backward_rows(const __grid_constant__ seam_backward_args k, const __grid_constant__ nv_chunked c) {
    NABLA_LAUNCH_SHARED(memory, 16);
    float *sums = (float *)memory;
    nv_clear_sums(c, sums);
    const int dim = c.dim, chunk = (int)blockIdx.x, last = nv_chunk_last(c, chunk);
    const int64_t group = chunk / c.per_group;
    for (int64_t row = nv_chunk_first(c, chunk); row < last; row++) {
        float *d_x = k.g.d_x + row * dim;
        nv_held<F> d, xhat, further, y;
        nv_load_row<F>(nv_row<const N>(k.g.d_n, row), dim, d);
        if (k.a.normalise) nv_load_row<F>((const N *)k.a.xhat + row * dim, dim, xhat);
        if (!k.g.first) nv_load_row<F>((const float *)d_x, dim, further);
        if (c.at[GATE] >= 0) nv_load_row<F>(nv_row<const Y>(k.a.y, row), dim, y);
        if (k.a.normalise) norm_backward<F>(k, c, sums, k.a.gain + group * k.a.gain_stride, k.a.rstd[row], xhat, d);
        if (!k.g.first)
#pragma unroll
            for (int p = 0; p < F::PIECES; p++)
#pragma unroll
                for (int i = 0; i < F::V; i++)
                    d.at[p][i] += further.at[p][i];
        nv_store_row<F>(d_x, dim, d);
        if (c.at[GATE] >= 0) {
            multiply(y, d);
            nv_sum_row<F>(c, sums, GATE, y);
        }
        if (!k.g.d_y.data) continue;
        if (k.a.gate) {
            nv_held<F> gate;
            nv_recall_row<F>(k.a.gate + group * k.a.gate_stride, dim, gate);
            multiply(d, gate);
        }
        nv_store_row<F>(nv_row<Y>(k.g.d_y, row), dim, d);
        nv_sum_row<F>(c, sums, BIAS, d);
    }
    nv_keep_sums<F>(c, chunk, sums);
}

template <typename Y, typename N> static void launch(const seam_backward_args *k, const nv_chunked *c, void *stream) {
    enum { V = 4 };
    const nv_seam *a = &k->a;
    const bool wide = a->dim % V == 0 && nv_on_boundary(k->g.d_x, NABLA_FP32, V) && nv_wide(a->y, V) &&
                      nv_wide(k->g.d_n, V) && nv_wide(k->g.d_y, V) && nv_on_boundary(a->gate, NABLA_FP32, V) &&
                      a->gate_stride % V == 0 && nv_on_boundary(a->gain, NABLA_FP32, V) && a->gain_stride % V == 0 &&
                      nv_on_boundary(a->xhat, k->g.d_n.dtype, V);
    nv_launch_summed(seam_backward_rows<Y, N, nv_fit<V, true, true>>, seam_backward_rows<Y, N, nv_fit<V, true, false>>,
                     seam_backward_rows<Y, N, nv_fit<1, false, false>>, wide, *k, *c, stream);
}

nabla_status nv_cuda_seam_backward(nv_device *dev, const nv_seam *a, const nv_seam_grad *g, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    if (a->rows == 0) return NABLA_OK;
    NV_TRY(nv_check_summed(a->rows, a->dim, "a seam backwards", err));
    nv_sums sums = {};
    if (a->normalise) {
        sums.to[GAIN] = g->d_gain;
        sums.to[SHIFT] = g->d_shift;
        sums.stride[GAIN] = sums.stride[SHIFT] = g->d_gain_stride;
    }
    if (a->y.data) sums.to[GATE] = g->d_gate;
    sums.stride[GATE] = g->d_gate_stride;
    if (g->d_y.data) sums.to[BIAS] = g->d_bias;
    nv_chunked c;
    NV_TRY(nv_cuda_chunk(d, a->rows, a->group_rows, a->dim, NV_PIECES, 16, &sums, &c, err));
    const seam_backward_args k = {*a, *g};
    const nv_matrix *branch = a->y.data ? &a->y : &g->d_y;
    const bool y_bf16 = branch->data && branch->dtype == NABLA_BF16, n_bf16 = g->d_n.dtype == NABLA_BF16;
    if (y_bf16 && n_bf16)
        launch<__nv_bfloat16, __nv_bfloat16>(&k, &c, d->stream);
    else if (y_bf16)
        launch<__nv_bfloat16, float>(&k, &c, d->stream);
    else if (n_bf16)
        launch<float, __nv_bfloat16>(&k, &c, d->stream);
    else
        launch<float, float>(&k, &c, d->stream);
    nv_cuda_add_chunks(d, &c);
    return nv_cuda_launched(err, "a seam backwards");
}

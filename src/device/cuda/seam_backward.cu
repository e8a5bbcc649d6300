/* SPDX-License-Identifier: Apache-2.0 */
/* The seam backwards: a thread block walks a chunk of rows, each held by all of its threads, and keeps the sums of four
   gradients of parameters in shared memory. */
#include "device/cuda/sums.cuh"

enum { GAIN, SHIFT, GATE, BIAS };

typedef struct seam_backward_args {
    nv_seam a;
    nv_seam_grad g;
} seam_backward_args;

/* Pieces of a row. */
template <int V> struct seam_row { float at[NV_HELD / V][V]; };

template <int V, bool WIDE, typename T> NV_FN void load_row(const T *row, int dim, seam_row<V> &to) {
#pragma unroll
    for (int p = 0; p < NV_HELD / V; p++) {
        const int column = (p * (int)blockDim.x + (int)threadIdx.x) * V;
        if (column < dim) nv_load<V, WIDE>(row + column, to.at[p]);
    }
}

/* d norm(x) = rstd * (h - mean(h) - xhat * mean(h xhat)) with h = d_n * gain, of which d becomes the bracket. */
template <int V, bool WIDE>
NV_FN void norm_backward(const seam_backward_args &k, const nv_chunked &c, float *sums, const float *gain,
                         const seam_row<V> &xhat, seam_row<V> &d) {
    float total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int p = 0; p < NV_HELD / V; p++) {
        const int column = (p * (int)blockDim.x + (int)threadIdx.x) * V;
        if (column >= c.dim) continue;
        if (c.at[SHIFT] >= 0) nv_sum_piece<V, WIDE>(sums + c.at[SHIFT] * c.dim, column, c.dim, d.at[p]);
        float g[V], product[V];
        nv_recall<V, WIDE>(gain + column, g);
#pragma unroll
        for (int i = 0; i < V; i++) {
            product[i] = d.at[p][i] * xhat.at[p][i];
            d.at[p][i] *= g[i] + k.a.gain_offset;
            total[0] += d.at[p][i];
            total[1] += d.at[p][i] * xhat.at[p][i];
        }
        if (c.at[GAIN] >= 0) nv_sum_piece<V, WIDE>(sums + c.at[GAIN] * c.dim, column, c.dim, product);
    }
    nv_team_sum(total);
    const float mean = total[0] / (float)c.dim, along = total[1] / (float)c.dim;
#pragma unroll
    for (int p = 0; p < NV_HELD / V; p++)
#pragma unroll
        for (int i = 0; i < V; i++)
            d.at[p][i] = d.at[p][i] - mean - xhat.at[p][i] * along;
}

template <typename Y, typename N, int V, bool WIDE>
static __global__ void __launch_bounds__(NV_SUMMED_THREADS)
    seam_backward_rows(const __grid_constant__ seam_backward_args k, const __grid_constant__ nv_chunked c) {
    NABLA_LAUNCH_SHARED(memory, 16);
    float *sums = (float *)memory;
    nv_clear_sums(c, sums);
    const int dim = c.dim, chunk = (int)blockIdx.x, last = nv_chunk_last(c, chunk);
    const int64_t group = chunk / c.per_group;
    const float *gain = k.a.gain + group * k.a.gain_stride;
    const float *gate = k.a.gate ? k.a.gate + group * k.a.gate_stride : NULL;
    for (int64_t row = nv_chunk_first(c, chunk); row < last; row++) {
        seam_row<V> d, xhat, further, y;
        float rstd = 1.0f;
        load_row<V, WIDE>(nv_row<N>(k.g.d_n, row), dim, d);
        if (k.a.normalise) load_row<V, WIDE>((const N *)k.a.xhat + row * dim, dim, xhat);
        if (!k.g.first) load_row<V, WIDE>((const float *)k.g.d_x + row * dim, dim, further);
        if (c.at[GATE] >= 0) load_row<V, WIDE>(nv_row<Y>(k.a.y, row), dim, y);
        if (k.a.normalise) {
            rstd = k.a.rstd[row];
            norm_backward<V, WIDE>(k, c, sums, gain, xhat, d);
        }
#pragma unroll
        for (int p = 0; p < NV_HELD / V; p++) {
            const int column = (p * (int)blockDim.x + (int)threadIdx.x) * V;
            if (column >= dim) continue;
            float v[V], factor[V];
#pragma unroll
            for (int i = 0; i < V; i++)
                v[i] = k.g.first ? d.at[p][i] * rstd : d.at[p][i] * rstd + further.at[p][i];
            nv_store<V, WIDE>(k.g.d_x + row * dim + column, v);
            if (c.at[GATE] >= 0) {
                float product[V];
#pragma unroll
                for (int i = 0; i < V; i++)
                    product[i] = v[i] * y.at[p][i];
                nv_sum_piece<V, WIDE>(sums + c.at[GATE] * dim, column, dim, product);
            }
            if (!k.g.d_y.data) continue;
            if (gate) {
                nv_recall<V, WIDE>(gate + column, factor);
#pragma unroll
                for (int i = 0; i < V; i++)
                    v[i] *= factor[i];
            }
            nv_store<V, WIDE>(nv_row<Y>(k.g.d_y, row) + column, v);
            if (c.at[BIAS] >= 0) nv_sum_piece<V, WIDE>(sums + c.at[BIAS] * dim, column, dim, v);
        }
    }
    nv_keep_sums<V, WIDE>(c, chunk, sums);
}

template <typename Y, typename N> static void launch(const seam_backward_args *k, const nv_chunked *c, void *stream) {
    enum { V = 4 };
    const nv_seam *a = &k->a;
    const bool wide = a->dim % V == 0 && nv_on_boundary(k->g.d_x, NABLA_FP32, V) && nv_wide(a->y, V) &&
                      nv_wide(k->g.d_n, V) && nv_wide(k->g.d_y, V) && nv_on_boundary(a->gate, NABLA_FP32, V) &&
                      a->gate_stride % V == 0 && nv_on_boundary(a->gain, NABLA_FP32, V) && a->gain_stride % V == 0 &&
                      nv_on_boundary(a->xhat, k->g.d_n.dtype, V);
    if (wide)
        nv_launch_summed(seam_backward_rows<Y, N, V, true>, *k, *c, stream);
    else
        nv_launch_summed(seam_backward_rows<Y, N, 1, false>, *k, *c, stream);
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

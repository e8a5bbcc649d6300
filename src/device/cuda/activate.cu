/* SPDX-License-Identifier: Apache-2.0 */
/* Activations, their gradients, and the gate of a text encoder's feed-forward. */
#include "device/cuda/activation.cuh"
#include "device/cuda/cells.cuh"
#include "device/cuda/walk.cuh"

template <nv_activation ACT, typename T, int V, bool WIDE> struct activate_body {
    typedef float piece[V];
    nv_matrix x, y;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        nv_load<V, WIDE>(nv_row<T>(x, row) + column, v);
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] *= nv_sigmoid(nv_gate_argument<ACT>(v[i]));
        nv_store<V, WIDE>(nv_row<T>(y, row) + column, v);
    }
};

template <nv_activation ACT, typename T, int V, bool WIDE> struct gate_body {
    struct piece {
        float x[V], z[V];
    };
    nv_matrix x, z, y;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        nv_load<V, WIDE>(nv_row<T>(x, row) + column, v.x);
        nv_load<V, WIDE>(nv_row<T>(z, row) + column, v.z);
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
#pragma unroll
        for (int i = 0; i < V; i++)
            v.x[i] *= nv_sigmoid(nv_gate_argument<ACT>(v.x[i])) * v.z[i];
        nv_store<V, WIDE>(nv_row<T>(y, row) + column, v.x);
    }
};

/* One body's call for the dtype and the alignment at hand. */
template <nv_activation ACT, typename T, int V>
static nabla_status activate(nv_device *dev, nv_matrix x, nv_matrix y, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    if (nv_wide(x, V) && nv_wide(y, V))
        return nv_over_cells<V>(activate_body<ACT, T, V, true>{x, y}, x.rows, x.cols, stream, "an activation", err);
    return nv_over_cells<1>(activate_body<ACT, T, 1, false>{x, y}, x.rows, x.cols, stream, "an activation", err);
}

nabla_status nv_cuda_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix y, nv_error *err) {
    if (x.dtype == NABLA_BF16)
        return act == NV_SILU ? activate<NV_SILU, __nv_bfloat16, 8>(dev, x, y, err)
                              : activate<NV_GELU_TANH, __nv_bfloat16, 8>(dev, x, y, err);
    return act == NV_SILU ? activate<NV_SILU, float, 4>(dev, x, y, err)
                          : activate<NV_GELU_TANH, float, 4>(dev, x, y, err);
}

template <nv_activation ACT, typename T, int V>
static nabla_status gate(nv_device *dev, nv_matrix x, nv_matrix z, nv_matrix y, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    if (nv_wide(x, V) && nv_wide(z, V) && nv_wide(y, V))
        return nv_over_cells<V>(gate_body<ACT, T, V, true>{x, z, y}, x.rows, x.cols, stream, "a gate", err);
    return nv_over_cells<1>(gate_body<ACT, T, 1, false>{x, z, y}, x.rows, x.cols, stream, "a gate", err);
}

nabla_status nv_cuda_gate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, nv_error *err) {
    if (x.dtype == NABLA_BF16)
        return act == NV_SILU ? gate<NV_SILU, __nv_bfloat16, 8>(dev, x, z, y, err)
                              : gate<NV_GELU_TANH, __nv_bfloat16, 8>(dev, x, z, y, err);
    return act == NV_SILU ? gate<NV_SILU, float, 4>(dev, x, z, y, err)
                          : gate<NV_GELU_TANH, float, 4>(dev, x, z, y, err);
}

template <nv_activation ACT, typename T, int V, bool WIDE> struct activate_backward_body {
    struct piece {
        float x[V], d[V];
    };
    nv_matrix x, d_y, d_x, again;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        nv_load<V, WIDE>(nv_row<T>(x, row) + column, v.x);
        nv_load<V, WIDE>(nv_row<T>(d_y, row) + column, v.d);
    }
    __device__ void store(piece &v, int64_t row, int64_t column, float (&sum)[V]) const {
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float s = nv_sigmoid(nv_gate_argument<ACT>(v.x[i])), y = v.x[i] * s;
            v.d[i] *= y * (1.0f - s) * nv_gate_slope<ACT>(v.x[i]) + s;
            v.x[i] = y;
            sum[i] += v.d[i];
        }
        nv_store<V, WIDE>(nv_row<T>(d_x, row) + column, v.d);
        if (again.data) nv_store<V, WIDE>(nv_row<T>(again, row) + column, v.x);
    }
};

template <nv_activation ACT, typename T, int V>
static nabla_status backward(nv_device *dev, const activate_backward_body<ACT, T, V, true> &wide, float *d_bias,
                             nv_error *err) {
    if (nv_wide(wide.x, V) && nv_wide(wide.d_y, V) && nv_wide(wide.d_x, V) && nv_wide(wide.again, V))
        return nv_walk<V>(nv_cuda_of(dev), wide, wide.x.rows, wide.x.cols, d_bias, "an activation backwards", err);
    const activate_backward_body<ACT, T, 1, false> narrow = {wide.x, wide.d_y, wide.d_x, wide.again};
    return nv_walk<1>(nv_cuda_of(dev), narrow, wide.x.rows, wide.x.cols, d_bias, "an activation backwards", err);
}

nabla_status nv_cuda_activate_backward(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                       nv_matrix again, float *d_bias, nv_error *err) {
    typedef __nv_bfloat16 bf16;
    if (x.dtype == NABLA_BF16)
        return act == NV_SILU ? backward<NV_SILU, bf16, 8>(dev, {x, d_y, d_x, again}, d_bias, err)
                              : backward<NV_GELU_TANH, bf16, 8>(dev, {x, d_y, d_x, again}, d_bias, err);
    return act == NV_SILU ? backward<NV_SILU, float, 4>(dev, {x, d_y, d_x, again}, d_bias, err)
                          : backward<NV_GELU_TANH, float, 4>(dev, {x, d_y, d_x, again}, d_bias, err);
}

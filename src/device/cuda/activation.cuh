/* SPDX-License-Identifier: Apache-2.0 */
/* Both activations are x * sigmoid(u): SiLU with u = x; GELU(tanh) with u = 2 sqrt(2 / pi) (x + 0.044715 x^3), as
   (1 + tanh(z)) / 2 = sigmoid(2z). */
#ifndef NV_CUDA_ACTIVATION_CUH
#define NV_CUDA_ACTIVATION_CUH

#include "device/cuda/rows.cuh"

#define NV_GELU_SCALE 1.5957691216f

NV_FN float nv_sigmoid(float u) {
    return __fdividef(1.0f, 1.0f + __expf(-u));
}

template <nv_activation ACT> NV_FN float nv_gate_argument(float x) {
    return ACT == NV_SILU ? x : x * (x * x * (NV_GELU_SCALE * 0.044715f) + NV_GELU_SCALE);
}

/* du/dx */
template <nv_activation ACT> NV_FN float nv_gate_slope(float x) {
    return ACT == NV_SILU ? 1.0f : x * x * (3.0f * NV_GELU_SCALE * 0.044715f) + NV_GELU_SCALE;
}

#endif

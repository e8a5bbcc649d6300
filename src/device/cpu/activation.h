/* SPDX-License-Identifier: Apache-2.0 */
/* Activations of a vector. */
#ifndef NV_CPU_ACTIVATION_H
#define NV_CPU_ACTIVATION_H

#include "device/cpu/vec.h"
#include "device/device.h"

/* Both are x * sigmoid(u): SiLU with u = x; GELU(tanh) with u = 2 sqrt(2 / pi) (x + 0.044715 x^3), as
   (1 + tanh(z)) / 2 = sigmoid(2z). Gives the sigmoid and, in *slope, du/dx. */
NV_INLINE vf gate_of(nv_activation act, vf x, vf *slope) {
    vf u = x;
    *slope = vset(1.0f);
    if (act == NV_GELU_TANH) {
        const float k = 1.5957691216f;
        vf square = x * x;
        u = x * (square * (k * 0.044715f) + k);
        *slope = square * (3.0f * k * 0.044715f) + k;
    }
    return vreciprocal(vexp(-u) + 1.0f);
}

#endif

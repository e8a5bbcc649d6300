/* SPDX-License-Identifier: Apache-2.0 */
#include "simd_avx2.h"

#define PAIRED 0

static inline vf v_dot(vf sum, vf a, vf b) {
    return v_fma(a, b, sum);
}

#include "backward.inc.h"
#include "forward.inc.h"

static NABLA_DECL_FORWARD(forward_fp32_avx2) {
    forward(task, NABLA_FP32);
}
static NABLA_DECL_FORWARD(forward_bf16_avx2) {
    forward(task, NABLA_BF16);
}

static NABLA_DECL_BACKWARD(backward_kv_fp32_avx2) {
    backward_kv(task, NABLA_FP32);
}
static NABLA_DECL_BACKWARD(backward_kv_bf16_avx2) {
    backward_kv(task, NABLA_BF16);
}
static NABLA_DECL_BACKWARD(backward_q_fp32_avx2) {
    backward_q(task, NABLA_FP32);
}
static NABLA_DECL_BACKWARD(backward_q_bf16_avx2) {
    backward_q(task, NABLA_BF16);
}

void nabla_kernels_avx2(nabla_kernels *table) {
    table->of[NABLA_FP32].forward = forward_fp32_avx2;
    table->of[NABLA_BF16].forward = forward_bf16_avx2;
    table->of[NABLA_FP32].backward_kv = backward_kv_fp32_avx2;
    table->of[NABLA_BF16].backward_kv = backward_kv_bf16_avx2;
    table->of[NABLA_FP32].backward_q = backward_q_fp32_avx2;
    table->of[NABLA_BF16].backward_q = backward_q_bf16_avx2;
    for (int type = 0; type < NABLA_CPU_DTYPES; type++) {
        table->of[type].forward_scratch = forward_scratch_size;
        table->of[type].backward_scratch = backward_scratch_size;
    }
}

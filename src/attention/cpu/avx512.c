/* SPDX-License-Identifier: Apache-2.0 */
#include "simd_avx512.h"

#define PAIRED 0

static inline vf v_dot(vf sum, vf a, vf b) {
    return v_fma(a, b, sum);
}

#include "forward.inc.h"

static NABLA_DECL_FORWARD(forward_fp32_avx512) {
    forward(task, NABLA_FP32);
}
static NABLA_DECL_FORWARD(forward_bf16_avx512) {
    forward(task, NABLA_BF16);
}

void nabla_kernels_avx512(nabla_kernels *table) {
    table->of[NABLA_FP32].forward = forward_fp32_avx512;
    table->of[NABLA_BF16].forward = forward_bf16_avx512;
    for (int type = 0; type < NABLA_CPU_DTYPES; type++)
        table->of[type].forward_scratch = forward_scratch_size;
}

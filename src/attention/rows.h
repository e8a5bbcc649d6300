/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of either dtype as fp32, and back. n is a head dim. */
#ifndef NABLA_ROWS_H
#define NABLA_ROWS_H

#include "bf16.h"
#include "kernel.h"

static inline void nabla_load_row(const void *base, nabla_dtype dtype, int64_t offset, int32_t n, float *out) {
    if (dtype == NABLA_FP32) {
        memcpy(out, (const float *)base + offset, (size_t)n * sizeof *out);
        return;
    }
    const uint16_t *x = (const uint16_t *)base + offset;
    for (int32_t i = 0; i < n; i++)
        out[i] = nabla_bf16_to_float(x[i]);
}

static inline void nabla_store_row(const float *x, void *base, nabla_dtype dtype, int64_t offset, int32_t n) {
    if (dtype == NABLA_FP32) {
        memcpy((float *)base + offset, x, (size_t)n * sizeof *x);
        return;
    }
    uint16_t *out = (uint16_t *)base + offset;
    for (int32_t i = 0; i < n; i++)
        out[i] = nabla_float_to_bf16(x[i]);
}

#endif

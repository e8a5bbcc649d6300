/* SPDX-License-Identifier: Apache-2.0 */
/* bfloat16: the upper half of an fp32 number. */
#ifndef NV_BF16_H
#define NV_BF16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t nv_bf16;

static inline float nv_bf16_to_float(nv_bf16 h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Rounds to nearest, ties to even; NaN stays NaN. */
static inline nv_bf16 nv_bf16_from_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (nv_bf16)((u >> 16) | 0x40u);
    return (nv_bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif

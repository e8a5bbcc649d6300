/* SPDX-License-Identifier: Apache-2.0 */
/* bf16 <-> fp32: the upper half of the bits, rounded to nearest even; NaN stays NaN. */
#ifndef NABLA_BF16_H
#define NABLA_BF16_H

#include <stdint.h>
#include <string.h>

static inline float nabla_bf16_to_float(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t nabla_float_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif

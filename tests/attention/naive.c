/* SPDX-License-Identifier: Apache-2.0 */
#include "naive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float round_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (x != x) return x;
    u += 0x7fffu + (u >> 16 & 1u);
    u &= 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

uint16_t naive_fp16_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    const uint32_t sign = u >> 16 & 0x8000u;
    const float a = fabsf(x);
    if (x != x) return (uint16_t)(sign | 0x7e00u);
    if (a >= 65520.0f) return (uint16_t)(sign | 0x7c00u);
    if (a < 0x1p-14f) return (uint16_t)(sign | (uint32_t)rintf(a * 0x1p24f)); /* subnormal */
    u &= 0x7fffffffu;
    u += 0xfffu + (u >> 13 & 1u);
    return (uint16_t)(sign | ((u >> 13) - (112u << 10)));
}

float naive_fp16_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits & 0x8000u ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24));
}

float naive_round(float x, nabla_dtype dtype) {
    if (dtype == NABLA_BF16) return round_bf16(x);
    return dtype == NABLA_FP16 ? naive_fp16_value(naive_fp16_bits(x)) : x;
}

#define REAL double
#define EXP exp
#define LOG log
#define OPERAND(x) (x)
#define STORE(x, dtype) (x)
#define NAME(x) x##_fp64
#include "naive.inc.h"
#undef REAL
#undef EXP
#undef LOG
#undef OPERAND
#undef STORE
#undef NAME

#define REAL float
#define EXP expf
#define LOG logf
#define OPERAND(x) naive_round(x, p->operands)
#define STORE(x, dtype) naive_round(x, dtype)
#define NAME(x) x##_plain
#include "naive.inc.h"

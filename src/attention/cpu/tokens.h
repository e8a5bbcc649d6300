/* SPDX-License-Identifier: Apache-2.0 */
/* What every kernel file of a vector level says of rows of tokens, in the vocabulary of simd_*.h, included before. */
#ifndef NABLA_TOKENS_H
#define NABLA_TOKENS_H

#include "kernel.h"

#define LOG2_E 1.44269504088896340736f
#define LN_2 0.69314718055994530942f

static inline int64_t round_up(int64_t x, int64_t to) {
    return (x + to - 1) / to * to;
}

static inline const char *row_at(nabla_rows x, nabla_dtype type, int64_t row) {
    return (const char *)x.data + row * x.stride * (type == NABLA_BF16 ? 2 : 4);
}

static inline vf load_floats(const char *row, nabla_dtype type, int32_t d, int32_t n) {
    return type == NABLA_BF16 ? v_load_bf16_n((const uint16_t *)row + d, n) : v_load_n((const float *)row + d, n);
}

static inline void store_floats(char *row, nabla_dtype type, int32_t d, int32_t n, vf x) {
    if (type == NABLA_BF16)
        v_store_bf16_n((uint16_t *)row + d, n, x);
    else
        v_store_n((float *)row + d, n, x);
}

#endif

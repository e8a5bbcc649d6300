/* SPDX-License-Identifier: Apache-2.0 */
/* Of sizes and how they are cut; numbers of at least 0, and divisors of at least 1. */
#ifndef NV_CPU_SIZES_H
#define NV_CPU_SIZES_H

#include <stdint.h>

static inline int64_t nv_smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t nv_ceil_of(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static inline int64_t nv_round_up(int64_t x, int64_t to) {
    return nv_ceil_of(x, to) * to;
}

#endif

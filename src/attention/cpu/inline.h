/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NABLA_INLINE_H
#define NABLA_INLINE_H

/* A loop that must vanish, so that the sums it adds to live in registers. */
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#define UNROLLED_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#define UNROLLED_BY_4 _Pragma("GCC unroll 4")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#endif

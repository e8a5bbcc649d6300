/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NABLA_INLINE_H
#define NABLA_INLINE_H

/* A loop that must vanish, so that the sums it adds to live in registers. */
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#endif

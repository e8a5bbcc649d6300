/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes that cannot wrap, and one allocation cut into pieces. */
#ifndef NABLA_LAYOUT_H
#define NABLA_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NABLA_ALIGN 64 /* bytes: a cache line, and the widest vector */

/* What has been laid out so far. Once `overflow` is set it stays, so that callers check once at the end. */
typedef struct nabla_layout {
    size_t bytes;
    bool overflow;
} nabla_layout;

/* Takes room for count elements of `size` bytes on a 64-byte boundary; returns its offset. */
static inline size_t nabla_layout_take(nabla_layout *layout, int64_t count, size_t size) {
    size_t offset = layout->bytes, bytes = 0;
    bool bad = count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes) ||
               __builtin_add_overflow(bytes, (size_t)NABLA_ALIGN - 1, &bytes) ||
               __builtin_add_overflow(offset, bytes & ~(size_t)(NABLA_ALIGN - 1), &layout->bytes) ||
               layout->bytes > PTRDIFF_MAX;
    layout->overflow = layout->overflow || bad;
    return offset;
}

/* a * b for counts; -1 where it does not fit or a factor is -1 already. */
static inline int64_t nabla_count_mul(int64_t a, int64_t b) {
    int64_t product;
    return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) ? -1 : product;
}

static inline int64_t nabla_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

#endif

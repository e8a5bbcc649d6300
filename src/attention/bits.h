/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of bits in 64-bit words: bit i is bit i % 64 of word i / 64. Bits past the last are always 0. */
#ifndef NABLA_BITS_H
#define NABLA_BITS_H

#include <stdint.h>

static inline int64_t nabla_words(int64_t bits) {
    return (bits + 63) / 64;
}

/* The bits of the last of nabla_words(bits) words that are in use. */
static inline uint64_t nabla_last_mask(int64_t bits) {
    return bits % 64 ? (UINT64_C(1) << (bits % 64)) - 1 : ~UINT64_C(0);
}

static inline int nabla_bit(const uint64_t *row, int64_t i) {
    return (int)(row[i / 64] >> (i % 64) & 1);
}

static inline void nabla_set_bit(uint64_t *row, int64_t i) {
    row[i / 64] |= UINT64_C(1) << (i % 64);
}

/* Sets bits [first, last). */
static inline void nabla_set_range(uint64_t *row, int64_t first, int64_t last) {
    for (int64_t i = first; i < last;) {
        const int64_t end = (i / 64 + 1) * 64 < last ? (i / 64 + 1) * 64 : last;
        const uint64_t ones = end - i == 64 ? ~UINT64_C(0) : (UINT64_C(1) << (end - i)) - 1;
        row[i / 64] |= ones << (i % 64);
        i = end;
    }
}

/* Writes the indices of the bits that are set, ascending; returns how many. */
static inline int32_t nabla_list_bits(const uint64_t *row, int64_t words, int32_t *list) {
    int32_t count = 0;
    for (int64_t w = 0; w < words; w++)
        for (uint64_t bits = row[w]; bits; bits &= bits - 1)
            list[count++] = (int32_t)(w * 64 + __builtin_ctzll(bits));
    return count;
}

static inline int64_t nabla_count_bits(const uint64_t *row, int64_t words) {
    int64_t count = 0;
    for (int64_t w = 0; w < words; w++)
        count += __builtin_popcountll(row[w]);
    return count;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention's operands in 8 bits, for the kernels that multiply bytes. Plain C that compilers vectorise, compiled by
 * each level with its own flags; every level makes the same bytes.
 *
 *     q   signed, a scale a row (softmax's scale and log2 e are in it); sum(q) a row comes with it
 *     k   unsigned, the signed number plus 128, less the head's mean key; a scale a piece of at most 64 keys
 *     v   signed, a scale a channel and piece
 *     p   unsigned, 255 for the piece's largest of the row
 *
 * so that a score is (k q - 128 sum(q)) times two scales, an exact integer before that. A piece that holds a NaN or an
 * infinity has a NaN for a scale: it shows in all that is made of it.
 *
 * A head's packed keys: mean [D] floats, then pieces: a scale and padding to 64 bytes, then the rows, [64][D] bytes.
 * Packed values: pieces of scales [D] floats, then words of four tokens, [16][D][4] bytes.
 */
#ifndef NABLA_INT8_INC_H
#define NABLA_INT8_INC_H

#include <math.h>

#include "rows.h"

enum { INT8_LINE = 64, INT8_ROWS = 64, INT8_MOST_DIM = 256, INT8_OFFSET = 128, INT8_TOP_P = 255 };

static inline size_t int8_lines(size_t bytes) {
    return (bytes + INT8_LINE - 1) / INT8_LINE * INT8_LINE;
}
/* Of scales or a mean. */
static inline size_t int8_scales_size(int32_t dim) {
    return int8_lines((size_t)dim * sizeof(float));
}
/* Room for either. */
static inline size_t int8_piece_size(int32_t dim) {
    return int8_scales_size(dim) + INT8_ROWS * (size_t)dim;
}
static size_t int8_packed_size(int64_t pieces, int32_t dim) {
    return int8_scales_size(dim) + (size_t)pieces * int8_piece_size(dim);
}

static inline const float *int8_mean(const void *packed_k) {
    return packed_k;
}
static inline char *int8_k_piece(const void *packed, int32_t piece, int32_t dim) {
    return (char *)(uintptr_t)packed + int8_scales_size(dim) + (size_t)piece * int8_piece_size(dim);
}
static inline char *int8_v_piece(const void *packed, int32_t piece, int32_t dim) {
    return (char *)(uintptr_t)packed + (size_t)piece * int8_piece_size(dim);
}
static inline float int8_k_scale(const char *piece) {
    float scale;
    memcpy(&scale, piece, sizeof scale);
    return scale;
}
static inline const uint8_t *int8_k_rows(const char *piece) {
    return (const uint8_t *)piece + INT8_LINE;
}
static inline const float *int8_v_scales(const char *piece) {
    return (const float *)(const void *)piece;
}
static inline const int8_t *int8_v_words(const char *piece, int32_t dim) {
    return (const int8_t *)piece + int8_scales_size(dim);
}

/* ------------------------------------------------------------------ rounding */

static inline uint32_t int8_magnitude(float x) { /* in the order of |x|, infinities and NaN above all numbers */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

/* From the largest magnitude to the scale of what it is of; *inverse turns numbers into steps. */
static inline float int8_scale_of(uint32_t magnitude, float *inverse) {
    const uint32_t infinity = 0x7f800000u;
    float top;
    memcpy(&top, &magnitude, sizeof top);
    *inverse = magnitude < infinity && top > 1e-35f ? 127.0f / top : 0.0f;
    return magnitude < infinity ? top / 127.0f : NAN;
}

/* To nearest, ties to even, for |x| <= 127; anything for others. */
static inline int32_t int8_round(float x) {
    const float shifted = x + 12582912.0f; /* 1.5 * 2^23: the lowest bits count ones */
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (int32_t)(bits - 0x4b400000u);
}

/* ------------------------------------------------------------------ operands */

/* One row: q[D] bytes, its scale, and the sum of its bytes. */
static inline float int8_quantise_q(const float *x, int32_t dim, float factor, int8_t *q, int32_t *sum) {
    float inverse;
    uint32_t top = 0;
    int32_t total = 0;
    float scaled[INT8_MOST_DIM];
    for (int32_t d = 0; d < dim; d++) {
        scaled[d] = x[d] * factor;
        const uint32_t m = int8_magnitude(scaled[d]);
        top = m > top ? m : top;
    }
    const float scale = int8_scale_of(top, &inverse);
    for (int32_t d = 0; d < dim; d++) {
        const int32_t step = int8_round(scaled[d] * inverse);
        q[d] = (int8_t)step;
        total += (int8_t)step;
    }
    *sum = total;
    return scale;
}

static void int8_pack_k(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t last, int32_t dim, int32_t piece,
                        void *packed) {
    const float *mean = int8_mean(packed);
    char *at = int8_k_piece(packed, piece, dim);
    uint8_t *out = (uint8_t *)at + INT8_LINE;
    float row[INT8_MOST_DIM], inverse;
    uint32_t top = 0;
    for (int32_t t = first; t < last; t++) {
        nabla_load_row(x.data, dtype, t * x.stride, dim, row);
        for (int32_t d = 0; d < dim; d++) {
            const uint32_t m = int8_magnitude(row[d] - mean[d]);
            top = m > top ? m : top;
        }
    }
    const float scale = int8_scale_of(top, &inverse);
    memcpy(at, &scale, sizeof scale);
    for (int32_t t = first; t < last; t++, out += dim) {
        nabla_load_row(x.data, dtype, t * x.stride, dim, row);
        for (int32_t d = 0; d < dim; d++)
            out[d] = (uint8_t)(int8_round((row[d] - mean[d]) * inverse) + INT8_OFFSET);
    }
}

static void int8_pack_v(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t last, int32_t dim, int32_t piece,
                        void *packed) {
    char *at = int8_v_piece(packed, piece, dim), *out = at + int8_scales_size(dim);
    float *scales = (float *)(void *)at;
    float rows[4][INT8_MOST_DIM], inverse[INT8_MOST_DIM];
    uint32_t top[INT8_MOST_DIM] = {0};
    for (int32_t t = first; t < last; t++) {
        nabla_load_row(x.data, dtype, t * x.stride, dim, rows[0]);
        for (int32_t d = 0; d < dim; d++) {
            const uint32_t m = int8_magnitude(rows[0][d]);
            top[d] = m > top[d] ? m : top[d];
        }
    }
    for (int32_t d = 0; d < dim; d++)
        scales[d] = int8_scale_of(top[d], &inverse[d]);
    for (int32_t t = first; t < last; t += 4, out += 4 * (size_t)dim) {
        for (int32_t i = 0; i < 4; i++) {
            if (t + i < last)
                nabla_load_row(x.data, dtype, (t + i) * x.stride, dim, rows[i]);
            else
                memset(rows[i], 0, (size_t)dim * sizeof(float));
        }
        for (int32_t d = 0; d < dim; d++) {
            uint32_t word = 0;
            for (int32_t i = 0; i < 4; i++)
                word |= ((uint32_t)int8_round(rows[i][d] * inverse[d]) & 0xffu) << 8 * i;
            memcpy(out + 4 * (size_t)d, &word, sizeof word); /* little-endian: byte i is token i */
        }
    }
}

/* LSE of scores that lack the mean key's share. */
static inline float int8_mean_score(const float *q, const float *mean, int32_t dim, float scale) {
    float sum = 0.0f;
    for (int32_t d = 0; d < dim; d++)
        sum += q[d] * mean[d];
    return sum * scale;
}

#endif

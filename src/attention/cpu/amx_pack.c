/* SPDX-License-Identifier: Apache-2.0 */
#include "amx.h"

typedef __m512i row; /* 32 bf16, or 16 pairs of them */

/* Dims [d, d + 32) of a token, zero past D. */
static inline row load_dims(nabla_rows x, nabla_dtype type, int64_t token, int32_t d, int32_t dim) {
    const char *at = row_at(x, type, token);
    const int32_t left = dim - d;
    if (type == NABLA_BF16) {
        const __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1u;
        return _mm512_maskz_loadu_epi16(mask, (const uint16_t *)at + d);
    }
    const vf high = left > VL ? v_load_n((const float *)at + d + VL, left - VL) : v_zero();
    return (row)_mm512_cvtne2ps_pbh(high, v_load_n((const float *)at + d, left));
}

/* The rows of 16 tokens from first + at on, of which there are first + n. */
static inline void load_tile(nabla_rows x, nabla_dtype type, int32_t first, int32_t at, int32_t n, int32_t d,
                             int32_t dim, row r[16]) {
    for (int32_t i = 0; i < 16; i++)
        r[i] = at + i < n ? load_dims(x, type, first + at + i, d, dim) : _mm512_setzero_si512();
}

/* 16 x 16 words. */
static inline void transpose(row r[16]) {
    row t[16];
    for (int i = 0; i < 16; i += 4) { /* 4 x 4 words within each quarter of four rows */
        const row a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        const row c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) { /* then 4 x 4 quarters */
        const row a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        const row c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
        const row d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

static inline char *store_tile(const row r[16], char *out) {
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(out + i * 64, r[i]);
    return out + TILE;
}

void amx_pack_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out) {
    char *at = out;
    row r[16];
    for (int32_t t = 0; t < PANEL; t += 16)
        for (int32_t d = 0; d < dim; d += 32) {
            load_tile(x, type, first, t, n, d, dim, r);
            at = store_tile(r, at);
        }
}

void amx_pack_dims(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out) {
    char *at = out;
    row r[16];
    for (int32_t t = 0; t < PANEL; t += 16)
        for (int32_t d = 0; d < dim; d += 32) {
            load_tile(x, type, first, t, n, d, dim, r);
            transpose(r);
            at = store_tile(r, at);
        }
}

void amx_pack_tokens(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out) {
    /* word i of low: element i of each of two rows; of high: element i + 16 */
    const row low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
                                     36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const row high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const row zero = _mm512_setzero_si512();
    char *at = out;
    for (int32_t d = 0; d < dim; d += 32, at += 4 * TILE)
        for (int32_t t = 0; t < PANEL; t += 2) {
            const row even = t < n ? load_dims(x, type, first + t, d, dim) : zero;
            const row odd = t + 1 < n ? load_dims(x, type, first + t + 1, d, dim) : zero;
            _mm512_store_si512(at + t * 32, _mm512_permutex2var_epi16(even, low, odd));
            _mm512_store_si512(at + 2 * TILE + t * 32, _mm512_permutex2var_epi16(even, high, odd));
        }
}

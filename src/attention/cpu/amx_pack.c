/* SPDX-License-Identifier: Apache-2.0 */
#include "amx.h"

/* Dims [d, d + 32) of a token, zero past D. */
static inline tile_row load_dims(nabla_rows x, nabla_dtype type, int64_t token, int32_t d, int32_t dim) {
    const char *at = row_at(x, type, token);
    const int32_t left = dim - d;
    if (type == NABLA_BF16) {
        const __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1u;
        return _mm512_maskz_loadu_epi16(mask, (const uint16_t *)at + d);
    }
    const vf high = left > VL ? v_load_n((const float *)at + d + VL, left - VL) : v_zero();
    return (tile_row)_mm512_cvtne2ps_pbh(high, v_load_n((const float *)at + d, left));
}

/* The rows of 16 tokens from first + at on, of which there are first + n. */
static inline void load_tile(nabla_rows x, nabla_dtype type, int32_t first, int32_t at, int32_t n, int32_t d,
                             int32_t dim, tile_row r[16]) {
    for (int32_t i = 0; i < 16; i++)
        r[i] = at + i < n ? load_dims(x, type, first + at + i, d, dim) : _mm512_setzero_si512();
}

static inline char *store_tile(const tile_row r[16], char *out) {
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(out + i * 64, r[i]);
    return out + TILE;
}

void amx_pack_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out) {
    char *at = out;
    tile_row r[16];
    for (int32_t t = 0; t < PANEL; t += 16)
        for (int32_t d = 0; d < dim; d += 32) {
            load_tile(x, type, first, t, n, d, dim, r);
            at = store_tile(r, at);
        }
}

void amx_pack_dims(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out) {
    char *at = out;
    tile_row r[16];
    for (int32_t t = 0; t < PANEL; t += 16)
        for (int32_t d = 0; d < dim; d += 32) {
            load_tile(x, type, first, t, n, d, dim, r);
            transpose(r);
            at = store_tile(r, at);
        }
}

/* 32 tokens by 32 dims as 2 tiles of tokens (see amx.h), of first + at on. */
static inline void load_pairs(nabla_rows x, nabla_dtype type, int32_t first, int32_t at, int32_t n, int32_t d,
                              int32_t dim, int32_t apart, tile_row low[16], tile_row high[16]) {
    /* word i of low: element i of each of two rows; of high: element i + 16 */
    const tile_row lower = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                            37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const tile_row upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16)), zero = _mm512_setzero_si512();
    for (int32_t i = 0; i < 16; i++) {
        const int32_t t = at + (apart == 1 ? 2 * i : i), u = t + apart;
        const tile_row one = t < n ? load_dims(x, type, first + t, d, dim) : zero;
        const tile_row other = u < n ? load_dims(x, type, first + u, d, dim) : zero;
        low[i] = _mm512_permutex2var_epi16(one, lower, other);
        high[i] = _mm512_permutex2var_epi16(one, upper, other);
    }
}

void amx_pack_tokens(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, int32_t apart, void *out) {
    char *at = out;
    tile_row low[16], high[16];
    for (int32_t d = 0; d < dim; d += 32, at += 4 * TILE)
        for (int32_t t = 0; t < PANEL; t += 32) {
            load_pairs(x, type, first, t, n, d, dim, apart, low, high);
            store_tile(low, at + t / 32 * TILE);
            store_tile(high, at + (2 + t / 32) * TILE);
        }
}

void amx_pack_cols(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out) {
    char *at = out;
    tile_row low[16], high[16];
    for (int32_t d = 0; d < dim; d += 32, at += 4 * TILE)
        for (int32_t t = 0; t < PANEL; t += 32) {
            load_pairs(x, type, first, t, n, d, dim, 1, low, high);
            transpose(low);
            transpose(high);
            store_tile(low, at + t / 32 * TILE);
            store_tile(high, at + (2 + t / 32) * TILE);
        }
}

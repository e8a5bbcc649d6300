/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of tiles in vectors. */
#ifndef NABLA_TILE_ROWS_H
#define NABLA_TILE_ROWS_H

#include <immintrin.h>

typedef __m512i tile_row; /* of a tile: 32 bf16, or 16 words, pairs of bf16 or floats */

/* 16 x 16 words. */
static inline void transpose(tile_row r[16]) {
    tile_row t[16];
    for (int i = 0; i < 16; i += 4) { /* 4 x 4 words within each quarter of four rows */
        const tile_row a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        const tile_row c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) { /* then 4 x 4 quarters */
        const tile_row a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        const tile_row c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
        const tile_row d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

#endif

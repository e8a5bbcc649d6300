/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of words to lanes and back: what is at the ends of the products of tile.inc.h, of whatever words. */
#ifndef NABLA_LANES_INC_H
#define NABLA_LANES_INC_H

#include <string.h>

#include "tile.inc.h"
#include "tokens.h"

enum { PANEL = 64 };

/* Distance of rows of dim floats. */
static inline int64_t col_ld(int32_t dim) {
    return round_up(dim, VL);
}

static inline void transpose4(const float *src, int64_t src_ld, float *dst, int64_t dst_ld) {
    __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + src_ld);
    __m128 c = _mm_loadu_ps(src + 2 * src_ld), d = _mm_loadu_ps(src + 3 * src_ld);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(dst, a);
    _mm_storeu_ps(dst + dst_ld, b);
    _mm_storeu_ps(dst + 2 * dst_ld, c);
    _mm_storeu_ps(dst + 3 * dst_ld, d);
}

/* rows [PANEL][ld], of which n count -> lanes of `height` rows; lanes from n up to a whole vector become zero. */
static void lanes_of_rows(float *rows, int64_t ld, int32_t n, int32_t height, lanes dst) {
    const int32_t end = (int32_t)round_up(n, VL);
    memset(rows + n * ld, 0, (size_t)((end - n) * ld) * sizeof *rows);
    for (int32_t r = 0; r < end; r += 4)
        for (int32_t w = 0; w < height; w += 4)
            transpose4(rows + r * ld + w, ld, lane_at(dst, r) + w * TILE_N, TILE_N);
}

/* lanes of `height` rows -> rows [n rounded up to 4][ld] */
static void rows_of_lanes(lanes src, int32_t n, int32_t height, float *rows, int64_t ld) {
    for (int32_t r = 0; r < n; r += 4)
        for (int32_t w = 0; w < height; w += 4)
            transpose4(lane_at(src, r) + w * TILE_N, TILE_N, rows + r * ld + w, ld);
}

#endif

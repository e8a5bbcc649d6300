/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one micro-kernel behind forward and backward: C[m][n] = sum over k of A(m, k) * B[k][n], or C += factor * sum.
 * The factor is one float, unless the file that includes this has its own (TILE_OWN_FACTOR).
 *
 * Vector lanes run along n. Each step k loads a row of B (TILE_NV vectors) and broadcasts TILE_MR elements of A into
 * it, so that every load feeds many multiply-adds and no sum crosses lanes. A is read as it lies, along its rows or
 * down its columns:
 *
 *     ROWS  A(m, k) = a[m * lda + k]     scores: keys by queries, a sum over D
 *     COLS  A(m, k) = a[k * lda + m]     outputs: D by queries, a sum over keys
 *
 * B and C are `lanes`: strips of TILE_N lanes, each strip dense: [n / TILE_N][rows][TILE_N].
 *
 * Elements of A and B are words: a float, multiplied by FMA, two bf16 along k, multiplied by a dot of pairs, or four
 * bytes, by a dot of those. A sum is one chain of v_dot in ascending k from 0, whatever the tile around it, so that an
 * element of the transposed product has the same bits. The first factor of v_dot is an element of the keys' A of a ROWS
 * product, and of B of a COLS product: where signs differ, those are the unsigned ones.
 */
#ifndef NABLA_TILE_INC_H
#define NABLA_TILE_INC_H

#include "inline.h"

enum { ROWS = 0, COLS = 1 };
enum { TILE_MR = 6, TILE_NV = TILE_WIDE ? 4 : 2, TILE_N = TILE_NV * VL };

#ifndef TILE_OWN_FACTOR
typedef float tile_factor;

/* c + factor * sum for the vector at (row, lane) of C. */
static inline vf add_product(const tile_factor *factor, int32_t row, int32_t lane, vf sum, vf c) {
    (void)row, (void)lane;
    return v_fma(v_set1(*factor), sum, c);
}
#endif

typedef void tile_fn(int64_t depth, const float *a, int64_t lda, const float *b, float *c, const tile_factor *factor,
                     int32_t row, int32_t lane);

/* mr rows by nv vectors of one strip of C from (row, lane) on, overwritten where factor is NULL. */
ALWAYS_INLINE void tile(const int order, const int mr, const int nv, int64_t depth, const float *a, int64_t lda,
                        const float *b, float *c, const tile_factor *factor, int32_t row, int32_t lane) {
    vf sum[TILE_MR][TILE_NV];
    UNROLLED
    for (int i = 0; i < mr; i++) {
        UNROLLED
        for (int j = 0; j < nv; j++)
            sum[i][j] = v_zero();
    }
    UNROLLED_STEPS
    for (const float *end = b + depth * TILE_N; b < end; b += TILE_N, a += order == COLS ? lda : 1) {
        vf y[TILE_NV];
        UNROLLED
        for (int j = 0; j < nv; j++)
            y[j] = v_load(b + j * VL);
        UNROLLED
        for (int i = 0; i < mr; i++) {
            const vf x = v_set1(order == COLS ? a[i] : a[i * lda]);
            UNROLLED
            for (int j = 0; j < nv; j++)
                sum[i][j] = order == COLS ? v_dot(sum[i][j], y[j], x) : v_dot(sum[i][j], x, y[j]);
        }
    }
    /* All additions before the first store, so that no factor is loaded twice. */
    if (factor) {
        UNROLLED
        for (int i = 0; i < mr; i++) {
            UNROLLED
            for (int j = 0; j < nv; j++)
                sum[i][j] = add_product(factor, row + i, lane + j * VL, sum[i][j], v_load(c + i * TILE_N + j * VL));
        }
    }
    UNROLLED
    for (int i = 0; i < mr; i++) {
        UNROLLED
        for (int j = 0; j < nv; j++)
            v_store(c + i * TILE_N + j * VL, sum[i][j]);
    }
}

#define TILE(order, mr, nv)                                                                                      \
    static void tile_##order##_##mr##_##nv(int64_t depth, const float *a, int64_t lda, const float *b, float *c, \
                                           const tile_factor *factor, int32_t row, int32_t lane) {               \
        tile(order, mr, nv, depth, a, lda, b, c, factor, row, lane);                                             \
    }
#define TILES(order, nv) TILE(order, 1, nv) TILE(order, 2, nv) TILE(order, 4, nv) TILE(order, 6, nv)
#define BY_HEIGHT(order, nv) \
    { NULL, tile_##order##_1_##nv, tile_##order##_2_##nv, NULL, tile_##order##_4_##nv, NULL, tile_##order##_6_##nv }

/* clang-format off: it takes these macros for one declaration */
TILES(ROWS, 1)
TILES(ROWS, 2)
TILES(COLS, 1)
TILES(COLS, 2)
#if TILE_WIDE
TILES(ROWS, 3)
TILES(ROWS, 4)
TILES(COLS, 3)
TILES(COLS, 4)
#define BY_WIDTH(order) \
    { BY_HEIGHT(order, 1), BY_HEIGHT(order, 2), BY_HEIGHT(order, 3), BY_HEIGHT(order, 4) }
#else
#define BY_WIDTH(order) \
    { BY_HEIGHT(order, 1), BY_HEIGHT(order, 2) }
#endif
static tile_fn *const tiles[2][TILE_NV][TILE_MR + 1] = {BY_WIDTH(ROWS), BY_WIDTH(COLS)};
/* clang-format on */

typedef struct lanes {
    float *data;
    int64_t strip; /* floats a strip: rows * TILE_N */
} lanes;

/* Lane n of a lanes' row 0; further rows follow at TILE_N. */
static inline float *lane_at(lanes x, int32_t n) {
    return x.data + n / TILE_N * x.strip + n % TILE_N;
}

/* Rows of memory that a later product reads, on their way to the second-level cache. */
typedef struct rows_ahead {
    const char *row;
    int64_t stride; /* bytes, as is size */
    int32_t size, rows;
} rows_ahead;

static inline void fetch_rows(rows_ahead *x, int32_t rows) {
    enum { LINE = 64 };
    for (; rows > 0 && x->rows > 0; rows--, x->rows--, x->row += x->stride)
        for (int32_t i = 0; i < x->size; i += LINE)
            _mm_prefetch(x->row + i, _MM_HINT_T1);
}

ALWAYS_INLINE void product_by_tiles(int order, int32_t m, int32_t n, int32_t depth, const float *a, int64_t lda,
                                    lanes b, lanes c, const tile_factor *factor, rows_ahead next) {
    const int32_t rows_a_tile = 1 + next.rows * (TILE_MR * TILE_N) / (m * n);
    for (int32_t j = 0; j < n; j += TILE_N) {
        const int32_t left = n - j < TILE_N ? n - j : TILE_N;
        tile_fn *const *of = tiles[order][(left - 1) / VL];
        for (int32_t i = 0, mr; i < m; i += mr) {
            mr = m - i >= 6 ? 6 : m - i >= 4 ? 4 : m - i >= 2 ? 2 : 1;
            fetch_rows(&next, rows_a_tile);
            of[mr](depth, a + (order == COLS ? i : i * lda), lda, lane_at(b, j), lane_at(c, j) + i * TILE_N, factor, i,
                   j);
        }
    }
}

/* C is m rows by n lanes, rounded up to whole vectors: C = AB where factor is NULL, else C += factor * AB. */
static void product(int order, int32_t m, int32_t n, int32_t depth, const float *a, int64_t lda, lanes b, lanes c,
                    const tile_factor *factor) {
    product_by_tiles(order, m, n, depth, a, lda, b, c, factor, (rows_ahead){.rows = 0});
}

/* And, where the level gains by it, what is next is fetched, evenly spread over the tiles. */
#if FETCH_AHEAD
static void product_fetching(int order, int32_t m, int32_t n, int32_t depth, const float *a, int64_t lda, lanes b,
                             lanes c, const tile_factor *factor, rows_ahead next) {
    product_by_tiles(order, m, n, depth, a, lda, b, c, factor, next);
}
#else
#define product_fetching(order, m, n, depth, a, lda, b, c, factor, next) \
    ((void)sizeof(next), product(order, m, n, depth, a, lda, b, c, factor))
#endif

#endif

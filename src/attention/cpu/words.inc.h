/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens' rows on their way into and out of the products of tile.inc.h. A panel is up to PANEL consecutive tokens,
 * copied to scratch where rows lie densely, are padded with zeros to whole vectors and do not fight for cache sets:
 *
 *     rows   [n][row_ld(D)]         words along D                      A of a ROWS product, a sum over D
 *     cols   [depth(n)][col_ld(D)]  words along tokens                 A of a COLS product, a sum over tokens
 *     lanes  [words(D)][n]          lanes are tokens (see tile.inc.h)  B: the task's own block, packed once
 *
 * Of floats, rows and cols are the same panel. Of bf16 pairs, rows are rows as they are and cols join two tokens.
 */
#ifndef NABLA_WORDS_INC_H
#define NABLA_WORDS_INC_H

#include <string.h>

#include "lanes.inc.h"
#include "tokens.h"

enum { TERMS_LD = PAIRED ? PANEL / 2 : PANEL /* words in a row of terms of a panel */ };

static inline int32_t words(int32_t dim) {
    return PAIRED ? dim / 2 : dim;
}
static inline int64_t row_ld(int32_t dim) {
    return round_up(words(dim), VL);
}
/* Room for PANEL rows or cols, or lanes of or along D. */
static inline size_t panel_floats(int32_t dim) {
    return PANEL * (size_t)round_up(dim, TILE_N);
}
/* Steps of a sum over n tokens. */
static inline int32_t depth(int32_t n) {
    return PAIRED ? (n + 1) / 2 : n;
}

/*
 * In both forms of words:
 *     fill_rows, fill_cols  the panels of x's rows [first, first + n)
 *     cols_of_rows          the cols of a rows panel: itself, or made in `room`
 *     fill_strips           the cols of x's rows [first, first + n) as lanes along D, PANEL rows a strip
 *     rows_of_terms         lanes of n rows by count floats -> rows [n][TERMS_LD] of words along the lanes
 *     store_terms           rows r and r + 1 of n of a column of lanes, as the B of a COLS product takes them
 */
#if PAIRED
static void fill_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, float *dst) {
    for (int32_t r = 0; r < n; r++, dst += row_ld(dim)) {
        const char *row = row_at(x, type, first + r);
        for (int32_t w = 0; w < dim / 2; w += VL) {
            const int32_t d = 2 * w, left = dim - d;
            v_store(dst + w, type == NABLA_BF16
                                 ? v_load_n((const float *)row + w, left / 2)
                                 : v_narrow(load_floats(row, type, d, left),
                                            left > VL ? load_floats(row, type, d + VL, left - VL) : v_zero()));
        }
    }
}

static void fill_cols(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, float *dst) {
    for (int32_t r = 0; r < n; r += 2, dst += col_ld(dim)) {
        const uint16_t *even = (const uint16_t *)row_at(x, type, first + r);
        const uint16_t *odd = (const uint16_t *)row_at(x, type, first + r + 1);
        for (int32_t d = 0; d < dim; d += VL)
            v_store(dst + d, v_join(even + d, odd + d, dim - d, r + 1 < n ? dim - d : 0));
    }
}

static void fill_strips(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, lanes dst) {
    for (int32_t r = 0; r < n; r += 2) {
        const uint16_t *even = (const uint16_t *)row_at(x, type, first + r);
        const uint16_t *odd = (const uint16_t *)row_at(x, type, first + r + 1);
        for (int32_t d = 0; d < dim; d += VL)
            v_store(lane_at(dst, d) + r / 2 * TILE_N, v_join(even + d, odd + d, dim - d, r + 1 < n ? dim - d : 0));
    }
}

static const float *cols_of_rows(const float *rows, int32_t n, int32_t dim, float *room) {
    fill_cols((nabla_rows){rows, 2 * row_ld(dim)}, NABLA_BF16, 0, n, dim, room);
    return room;
}

static void rows_of_terms(lanes src, int32_t n, int32_t count, float *dst) {
    for (int32_t i = 0; i < count; i += 2 * VL)
        for (int32_t r = 0; r < n; r++) {
            const float *low = lane_at(src, i) + r * TILE_N, *high = low + VL;
            const vf upper = count - i > VL ? v_load_n(high, count - i - VL) : v_zero();
            v_store(dst + r * TERMS_LD + i / 2, v_narrow(v_load_n(low, count - i), upper));
        }
}

static inline void store_terms(float *p, int32_t r, int32_t n, vf even, vf odd) {
    (void)n;
    v_store(p + r / 2 * TILE_N, v_pair(even, odd));
}
#else
static void fill_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, float *dst) {
    for (int32_t r = 0; r < n; r++, dst += row_ld(dim)) {
        const char *row = row_at(x, type, first + r);
        for (int32_t d = 0; d < dim; d += VL)
            v_store(dst + d, load_floats(row, type, d, dim - d));
    }
}

static void fill_cols(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, float *dst) {
    fill_rows(x, type, first, n, dim, dst);
}

static void fill_strips(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, lanes dst) {
    for (int32_t r = 0; r < n; r++)
        for (int32_t d = 0; d < dim; d += VL)
            v_store(lane_at(dst, d) + r * TILE_N, load_floats(row_at(x, type, first + r), type, d, dim - d));
}

static const float *cols_of_rows(const float *rows, int32_t n, int32_t dim, float *room) {
    (void)n, (void)dim, (void)room;
    return rows;
}

static void rows_of_terms(lanes src, int32_t n, int32_t count, float *dst) {
    for (int32_t i = 0; i < count; i += VL)
        for (int32_t r = 0; r < n; r++)
            v_store(dst + r * TERMS_LD + i, v_load(lane_at(src, i) + r * TILE_N));
}

static inline void store_terms(float *p, int32_t r, int32_t n, vf even, vf odd) {
    v_store(p + r * TILE_N, even);
    if (r + 1 < n) v_store(p + (r + 1) * TILE_N, odd);
}
#endif

/* Walks the tokens of a list of blocks in panels. A panel is of one block, so that what dQ adds up (a sum a panel,
   pairs from a panel's first token) depends on the blocks alone. */
typedef struct panel_walk {
    const int32_t *offsets, *blocks;
    int32_t count, next, at, end;
} panel_walk;

/* The next panel's first token and its number of tokens; 0 at the end. */
static int32_t next_panel(panel_walk *w, int32_t *first) {
    while (w->at == w->end) {
        if (w->next == w->count) return 0;
        w->at = w->offsets[w->blocks[w->next]];
        w->end = w->offsets[w->blocks[w->next++] + 1];
    }
    *first = w->at;
    w->at += w->end - w->at < PANEL ? w->end - w->at : PANEL;
    return w->at - *first;
}

/* x's rows [first, first + n), to be fetched; none where there is no x. */
static inline rows_ahead rows_of(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim) {
    const int32_t size = type == NABLA_BF16 ? 2 : 4;
    return x.data ? (rows_ahead){row_at(x, type, first), x.stride * size, dim * size, n} : (rows_ahead){.rows = 0};
}
/* Those of the panel that comes next. */
static inline rows_ahead next_rows(panel_walk w, nabla_rows x, nabla_dtype type, int32_t dim) {
    int32_t first = 0;
    const int32_t n = next_panel(&w, &first);
    return rows_of(x, type, first, n, dim);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The panels' one source, a part of rows_body.h. `bf16` and `width` are constants where these are inlined. */
#include "device/cpu/panels.h"
#include "device/cpu/vec.h"

/* Vectors of one register each: wider ones would pass through memory where sums stay over a loop. */
typedef float vr __attribute__((vector_size(4 * NV_REGISTER)));
typedef vr vr_memory __attribute__((aligned(4), may_alias));

/* Sums of a micro-tile that fill most registers of the level; columns in whole pieces of vec.h. */
#if NV_REGISTER == 4
enum { TILE_ROWS = 3, TILE_COLS = 16 };
#else
enum { TILE_ROWS = 6, TILE_COLS = 2 * NV_REGISTER };
#endif
enum { TILE_VECTORS = TILE_COLS / NV_REGISTER };

static void panel_multiply(const float *a, const float *b, int64_t k, int32_t fresh, float *tile) {
    vr sum[TILE_ROWS][TILE_VECTORS];
    vr_memory *const out = (vr_memory *)tile;
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++)
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[r][v] = (vr){0};
    for (int i = 0; i < TILE_ROWS * TILE_COLS; i += 16)
        __builtin_prefetch(tile + i, 1);
    for (int64_t i = 0; i < k; i++, a += TILE_ROWS, b += TILE_COLS)
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++)
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[r][v] += a[r] * ((const vr_memory *)b)[v];
    if (!fresh)
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++)
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[r][v] += out[r * TILE_VECTORS + v];
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++)
        for (int v = 0; v < TILE_VECTORS; v++)
            out[r * TILE_VECTORS + v] = sum[r][v];
}

/* ------------------------------------------------------------------------------------------ packing */

enum { EIGHT = 8 }; /* numbers turned at a time, rows by k */

/* Eight numbers, or those of a micro-tile's rows (n, a constant); what lies behind them is not touched. */
NV_INLINE vf8 load_eight(const void *p, int64_t i, int n, int bf16) {
    uint64_t low = 0, high = 0; /* of bf16 */
    if (!bf16) {
        vf8 v = {0};
        memcpy(&v, (const float *)p + i, (size_t)n * sizeof(float));
        return v;
    }
    memcpy(&low, (const nv_bf16 *)p + i, (size_t)(n < 4 ? n : 4) * sizeof(nv_bf16));
    memcpy(&high, (const nv_bf16 *)p + i + 4, (size_t)(n < 4 ? 0 : n - 4) * sizeof(nv_bf16));
    return (vf8)(__builtin_convertvector((vh8)(vl2){low, high}, vu8) << 16);
}

NV_INLINE void store_eight(float *p, vf8 v, int n) {
    memcpy(p, &v, (size_t)n * sizeof *p);
}

/* Of the next strip, or of a later k: rows are too far apart for the processor to see them coming. */
NV_INLINE void fetch(const void *p, int64_t i, int bf16) {
    __builtin_prefetch((const char *)p + i * (bf16 ? 2 : 4));
}

NV_INLINE float load_one(const void *p, int64_t i, int bf16) {
    return bf16 ? nv_bf16_to_float(((const nv_bf16 *)p)[i]) : ((const float *)p)[i];
}

/* Rows become columns. */
NV_INLINE void turn_eight(vf8 x[EIGHT]) {
    vf8 pairs[EIGHT], fours[EIGHT];
    for (int i = 0; i < EIGHT; i += 2) {
        pairs[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < EIGHT; i += 4)
        for (int j = 0; j < 2; j++) {
            const vf8 low = pairs[i + j], high = pairs[i + j + 2];
            fours[i + 2 * j] = __builtin_shufflevector(low, high, 0, 1, 8, 9, 4, 5, 12, 13);
            fours[i + 2 * j + 1] = __builtin_shufflevector(low, high, 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        x[i] = __builtin_shufflevector(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        x[i + 4] = __builtin_shufflevector(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* Rows [row, row + n) of a strip that begins at row `first`, where numbers of one row lie side by side. */
NV_INLINE void pack_turned(const nv_panel_source *s, int64_t first, int row, int n, int width, int bf16, float *out) {
    int64_t at[EIGHT];
    for (int r = 0; r < n; r++)
        at[r] = (first + row + r < s->count ? first + row + r : s->count - 1) * s->across;
    for (int64_t i = 0; i + EIGHT <= s->k || (i < s->k && s->k >= EIGHT); i += EIGHT) {
        const int64_t from = i + EIGHT <= s->k ? i : s->k - EIGHT; /* the last ones partly once more */
        vf8 x[EIGHT] = {{0}};
        for (int r = 0; r < n; r++) {
            x[r] = load_eight(s->data, at[r] + from, EIGHT, bf16);
            if (i % (bf16 ? 32 : 16) == 0) fetch(s->data, at[r] + width * s->across + i, bf16); /* once a line */
        }
        turn_eight(x);
        for (int j = 0; j < EIGHT; j++)
            store_eight(out + (from + j) * width + row, x[j], n);
    }
    for (int64_t i = 0; i < s->k && s->k < EIGHT; i++)
        for (int r = 0; r < n; r++)
            out[i * width + row + r] = load_one(s->data, at[r] + i, bf16);
}

/* Whole strips [first, last), where numbers of one k lie side by side: k by k through all of them, for lines are longer
   than strips. */
NV_INLINE void pack_straight(const nv_panel_source *s, int64_t first, int64_t last, int width, int bf16, float *out) {
    for (int64_t i = 0; i < s->k; i++)
        for (int64_t strip = first; strip < last; strip++) {
            fetch(s->data, (i + EIGHT) * s->along + strip * width, bf16);
            for (int row = 0; row < width; row += EIGHT) {
                const int n = width - row < EIGHT ? width - row : EIGHT;
                store_eight(out + (strip * s->k + i) * width + row,
                            load_eight(s->data, i * s->along + strip * width + row, n, bf16), n);
            }
        }
}

NV_INLINE void pack_short(const nv_panel_source *s, int64_t first, int width, int bf16, float *out) {
    for (int64_t i = 0; i < s->k; i++)
        for (int r = 0; r < width; r++) {
            const int64_t row = first + r < s->count ? first + r : s->count - 1;
            out[i * width + r] = load_one(s->data, row * s->across + i * s->along, bf16);
        }
}

NV_INLINE void pack_strips(const nv_panel_source *s, int width, int bf16, float *out) {
    const int64_t whole = s->count / width, together = 64 / width; /* strips whose k's fill a few lines */
    if (s->along == 1) {
        for (int64_t strip = 0; strip * width < s->count; strip++)
            for (int row = 0; row < width; row += EIGHT)
                pack_turned(s, strip * width, row, width - row < EIGHT ? width - row : EIGHT, width, bf16,
                            out + strip * s->k * width);
        return;
    }
    for (int64_t strip = 0; strip < whole; strip += together)
        pack_straight(s, strip, strip + together < whole ? strip + together : whole, width, bf16, out);
    if (whole * width < s->count) pack_short(s, whole * width, width, bf16, out + whole * s->k * width);
}

static void panel_pack_a(const nv_panel_source *s, float *strips) {
    if (s->bf16)
        pack_strips(s, TILE_ROWS, 1, strips);
    else
        pack_strips(s, TILE_ROWS, 0, strips);
}

static void panel_pack_b(const nv_panel_source *s, float *strips) {
    if (s->bf16)
        pack_strips(s, TILE_COLS, 1, strips);
    else
        pack_strips(s, TILE_COLS, 0, strips);
}

/* ------------------------------------------------------------------------------------------ C */

NV_INLINE void store_row(const nv_panel_sums *s, int64_t row, int bf16, int add) {
    const float *tile = s->tiles + (row / TILE_ROWS * s->across * TILE_ROWS + row % TILE_ROWS) * TILE_COLS;
    for (int64_t j = 0; j < s->cols; j += TILE_COLS, tile += TILE_ROWS * TILE_COLS)
        for (int64_t c = j; c < j + TILE_COLS && c < s->cols; c += NV_LANES) {
            const int n = vleft(s->cols, c);
            const int64_t at = row * s->c_row + c;
            vf v = vload_f32(tile + (c - j), NV_LANES);
            if (s->bias) v += vload_f32(s->bias + c, n);
            if (add) v += vload_f32((const float *)s->c + at, n);
            vstore(s->c, at, v, n, bf16);
        }
}

static void panel_store(const nv_panel_sums *s) {
    for (int64_t row = 0; row < s->rows; row++) {
        if (s->bf16)
            store_row(s, row, 1, 0);
        else if (s->add)
            store_row(s, row, 0, 1);
        else
            store_row(s, row, 0, 0);
    }
}

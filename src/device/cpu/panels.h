/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one thread does for our own matrix product: panels of A and B packed as fp32 (whatever their dtype and strides)
 * into strips of a micro-tile's rows or columns, k by k; micro-tiles of sums; sums to C. One source (panels_body.h) for
 * every level; own_product.c calls it.
 */
#ifndef NV_PANELS_H
#define NV_PANELS_H

#include <stdint.h>

/* What becomes strips. */
typedef struct nv_panel_source {
    const void *data;
    int32_t bf16;
    int64_t across; /* numbers from a row of A, or a column of B, to the next; this or `along` is 1 */
    int64_t along;  /* from one of k to the next */
    int64_t count;  /* rows or columns */
    int64_t k;
} nv_panel_source;

/* Micro-tiles, row by row of them, and where they go: C (+)= sums + bias. */
typedef struct nv_panel_sums {
    const float *tiles;
    int64_t rows, cols; /* of C; tiles reach beyond them */
    int64_t across;     /* micro-tiles in a row of them */
    void *c;
    int64_t c_row; /* numbers from a row to the next */
    int32_t bf16, add;
    const float *bias; /* of these columns; NULL: none */
} nv_panel_sums;

typedef struct nv_panel_kernels {
    int32_t rows, cols; /* of a micro-tile */
    /* In a strip that the operand does not fill its last row or column is there again. */
    void (*pack_a)(const nv_panel_source *from, float *strips);
    void (*pack_b)(const nv_panel_source *from, float *strips);
    /* tile[rows, cols] (+)= a strip of A by one of B; fresh: whatever is there. */
    void (*multiply)(const float *a, const float *b, int64_t k, int32_t fresh, float *tile);
    void (*store)(const nv_panel_sums *sums);
} nv_panel_kernels;

#endif

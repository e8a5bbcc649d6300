/* SPDX-License-Identifier: Apache-2.0 */
/* A rival of the forward kernel in tiles for amx_parts.c: 64 queries over panels of keys, one after the other or,
   mixed, a panel's P made amid S of the next one and O of the two before. And the products that both kernels' rivals
   share. */
#ifndef BENCH_AMX_WALKS_H
#define BENCH_AMX_WALKS_H

#include "amx_products.h"
#include "amx_softmax.h"

#include <string.h>

enum { P_PANEL = 8 * TILE, CHUNK = 2 };

ALWAYS_INLINE void fill_rows(const int rows, softmax *run) {
    UNROLLED
    for (int i = 0; i < rows; i++)
        softmax_row(run);
}

/* S = Q K^T: q [4][depth], k a panel as dims, s [4][4]. `rows` of P are made with every two products. */
ALWAYS_INLINE void scores(const int depth, const int rows, const char *q, const char *k, char *s, softmax *run) {
    const int64_t second = 4 * TILE;
    char *last = NULL;
    for (int column = 0; column < 4; column++, k += depth * TILE, s += TILE) {
        const char *const high = q + 2 * depth * TILE;
        tile_zero(0);
        tile_zero(1);
        PAIR_STEPS(0, 1, 2, 3, depth, k + i_ * TILE, q + i_ * TILE, q + (depth + i_) * TILE, last, second,
                   fill_rows(rows, run))
        last = s;
        tile_zero(2);
        tile_zero(3);
        PAIR_STEPS(2, 3, 0, 1, depth, k + i_ * TILE, high + i_ * TILE, high + (depth + i_) * TILE, last, second,
                   fill_rows(rows, run))
        last = s + 2 * second;
    }
    tile_store(2, last, 64);
    tile_store(3, last + second, 64);
}

/* Where a product over tokens finds its operands: A [rt][2] tiles and B [columns][2] tiles of each of `chunk` panels,
   which lie a_panel and b_panel bytes apart, and C [rt][columns] with `second` bytes from one row to the next. */
typedef struct operands {
    const char *a, *b;
    char *c;
    int64_t a_panel, b_panel, second;
} operands;

/* `columns` columns of C += A B. */
ALWAYS_INLINE void add_products(const int rt, const int chunk, const int columns, const int rows, const operands x,
                                softmax *run) {
    char *last = NULL;
    for (int column = 0; column < columns; column++)
        for (int row = 0; row < rt; row += 4) {
            const char *b = x.b + column * 2 * TILE, *a = x.a + row * 2 * TILE;
            char *to = x.c + row * x.second + column * TILE;
            tile_load(0, to, 64);
            tile_load(1, to + x.second, 64);
            PAIR_STEPS(0, 1, 2, 3, 2 * chunk, b + i_ / 2 * x.b_panel + i_ % 2 * TILE,
                       a + i_ / 2 * x.a_panel + i_ % 2 * TILE, a + i_ / 2 * x.a_panel + (2 + i_ % 2) * TILE, last,
                       x.second, fill_rows(rows, run))
            last = to;
            a += 4 * TILE;
            to += 2 * x.second;
            tile_load(2, to, 64);
            tile_load(3, to + x.second, 64);
            PAIR_STEPS(2, 3, 0, 1, 2 * chunk, b + i_ / 2 * x.b_panel + i_ % 2 * TILE,
                       a + i_ / 2 * x.a_panel + i_ % 2 * TILE, a + i_ / 2 * x.a_panel + (2 + i_ % 2) * TILE, last,
                       x.second, fill_rows(rows, run))
            last = to;
        }
    tile_store(2, last, 64);
    tile_store(3, last + x.second, 64);
}

/* 64 queries and what is made of them. */
typedef struct job {
    const char *q;      /* rows */
    const char *k, *v;  /* panels as dims and as tokens */
    int32_t panels;     /* a multiple of CHUNK */
    float scale;        /* in log2 units */
    float below[PANEL]; /* -m; there is none better, as scores are never far above 0 */
    char *s, *p, *o;    /* [2][16] tiles, [2][CHUNK][8] tiles, [4][2 depth] tiles */
    float (*sums)[VL];  /* [64] */
    bool far;           /* some score was too far above m */
} job;

/* Columns [from, from + columns) of O += P V over CHUNK panels. */
ALWAYS_INLINE void outputs(const int depth, const int rows, int32_t from, const int columns, const char *p,
                           const char *v, const job *j, softmax *run) {
    const operands x = {.a = p,
                        .b = v + from * 2 * TILE,
                        .c = j->o + from * TILE,
                        .a_panel = P_PANEL,
                        .b_panel = (int64_t)4 * depth * TILE,
                        .second = (int64_t)2 * depth * TILE};
    add_products(4, CHUNK, columns, rows, x, run);
}

ALWAYS_INLINE softmax softmax_of(const job *j, int half, char *p, vf top) {
    return (softmax){.s = (const float *)(j->s + half * 16 * TILE),
                     .p = p,
                     .below = j->below,
                     .before = (const float(*)[VL])j->sums,
                     .after = j->sums,
                     .scale = v_set1(j->scale),
                     .top = top};
}

ALWAYS_INLINE void walk(const int depth, const bool mixed, job *j) {
    const int64_t panel = (int64_t)4 * depth * TILE;
    const int part = 2 * depth / CHUNK;     /* columns of O with each panel */
    const int rows = mixed ? 4 / depth : 0; /* with every two products */
    memset(j->sums, 0, PANEL * sizeof *j->sums);
    memset(j->o, 0, (size_t)8 * (size_t)depth * TILE);
    vf top = v_zero();
    if (mixed) scores(depth, 0, j->q, j->k, j->s, NULL);
    for (int32_t i = 0; i < j->panels; i++) {
        const int32_t within = i % CHUNK, turn = mixed ? i / CHUNK % 2 : 0;
        char *p = j->p + (turn * CHUNK + within) * P_PANEL;
        const char *before = j->p + (!turn) * CHUNK * P_PANEL, *v = j->v + (i - within - CHUNK) * panel;
        const bool more = i + 1 < j->panels;
        softmax run = softmax_of(j, mixed ? i % 2 : 0, p, top);
        if (!mixed) scores(depth, 0, j->q, j->k + i * panel, j->s, &run);
        if (mixed && more) scores(depth, rows, j->q, j->k + (i + 1) * panel, j->s + (i + 1) % 2 * 16 * TILE, &run);
        if (mixed && i >= CHUNK && more) outputs(depth, rows, within * part, part, before, v, j, &run);
        if (mixed && i >= CHUNK && !more) outputs(depth, 0, within * part, part, before, v, j, &run);
        while (run.row < PANEL)
            softmax_row(&run);
        top = run.top;
        if (!mixed && within == CHUNK - 1) outputs(depth, 0, 0, 2 * depth, j->p, j->v + (i - within) * panel, j, &run);
    }
    if (mixed)
        outputs(depth, 0, 0, 2 * depth, j->p + (j->panels / CHUNK - 1) % 2 * CHUNK * P_PANEL,
                j->v + (j->panels - CHUNK) * panel, j, NULL);
    j->far = v_above(top, v_set1(MOST_OF_FOUR));
}

#endif

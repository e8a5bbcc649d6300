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
    SUM_OVER_DIMS(depth, q, k, s, fill_rows(rows, run));
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
                        .a_panel = P_PANEL,
                        .b_panel = (int64_t)4 * depth * TILE,
                        .c = j->o + from * TILE,
                        .second = (int64_t)2 * depth * TILE,
                        .step = TILE,
                        .stride = 64};
    ADD_BY_COLUMNS(columns, CHUNK, x, fill_rows(rows, run));
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to walk 64 queries (or 32) over panels of keys for amx_parts.c, the shape of every loop a constant:
 *
 *     rt      row tiles of queries: 4 read K and V once for 64 queries, 2 are a strip of 32
 *     shape   PAIRS: 2 row tiles by 1 column, two pairs of accumulators in turn, one's stores amid the other's
 * products; SQUARES: 2 by 2, a third fewer loads a product, all four stores at the end chunk   panels of which O is
 * loaded, added to and stored at once: 1, 2 or 4 soft    see amx_fill.h mix     0: S, P and O one after the other;
 * 1: a panel's P is made amid S of the next one; 2: amid that and O of the chunk before fetch   lines to fetch into the
 * first level with every two products
 */
#ifndef BENCH_AMX_WALKS_H
#define BENCH_AMX_WALKS_H

#include "amx_fill.h"

#include <string.h>

enum { PAIRS, SQUARES };
enum {
    P_PANEL = 8 * TILE,
    MOST_CHUNK = 4,
    STRIP_PANELS = 16 /* that a strip of 32 queries walks before the other one does, while they are in the cache */
};

/* As PAIR_STEPS, for four accumulators. */
#define SQUARE_STEPS(steps, B0, B1, A0, A1, fill) \
    UNROLLED                                      \
    for (int k_ = 0; k_ < (steps); k_++) {        \
        tile_load(4, A0, 64);                     \
        tile_load(6, B0, 64);                     \
        tile_dot(0, 4, 6);                        \
        tile_load(7, B1, 64);                     \
        tile_dot(1, 4, 7);                        \
        fill;                                     \
        tile_load(5, A1, 64);                     \
        tile_dot(2, 5, 6);                        \
        tile_dot(3, 5, 7);                        \
        fill;                                     \
    }

/* S = Q K^T: q [rt][depth], k a panel as dims, s [rt][4]. */
ALWAYS_INLINE void scores(const int depth, const int rt, const int shape, const int soft, const int rows,
                          const int lines, const char *q, const char *k, char *s, softmax_run *run) {
    const int64_t second = 4 * TILE;
    if (shape == PAIRS) {
        char *last = NULL;
        for (int column = 0; column < 4; column += 4 / rt) {
            const char *b = k + column * depth * TILE, *a = q;
            char *to = s + column * TILE;
            tile_zero(0);
            tile_zero(1);
            PAIR_STEPS(0, 1, 2, 3, depth, b + i_ * TILE, a + i_ * TILE, a + (depth + i_) * TILE, last, second,
                       fill_rows(soft, rows, lines, run))
            last = to;
            if (rt == 4)
                a += 2 * depth * TILE, to += 2 * second;
            else
                b += depth * TILE, to += TILE;
            tile_zero(2);
            tile_zero(3);
            PAIR_STEPS(2, 3, 0, 1, depth, b + i_ * TILE, a + i_ * TILE, a + (depth + i_) * TILE, last, second,
                       fill_rows(soft, rows, lines, run))
            last = to;
        }
        tile_store(2, last, 64);
        tile_store(3, last + second, 64);
        return;
    }
    for (int column = 0; column < 4; column += 2)
        for (int row = 0; row < rt; row += 2) {
            const char *b = k + column * depth * TILE, *a = q + row * depth * TILE;
            char *to = s + row * second + column * TILE;
            tile_zero(0);
            tile_zero(1);
            tile_zero(2);
            tile_zero(3);
            SQUARE_STEPS(depth, b + k_ * TILE, b + (depth + k_) * TILE, a + k_ * TILE, a + (depth + k_) * TILE,
                         fill_rows(soft, rows, lines, run))
            tile_store(0, to, 64);
            tile_store(1, to + TILE, 64);
            tile_store(2, to + second, 64);
            tile_store(3, to + second + TILE, 64);
        }
}

/* Where a product over tokens finds its operands: A [rt][2] tiles and B [columns][2] tiles of each of `chunk` panels,
   which lie a_panel and b_panel bytes apart, and C [rt][columns] with `second` bytes from one row to the next. */
typedef struct operands {
    const char *a, *b;
    char *c;
    int64_t a_panel, b_panel, second;
} operands;

/* `columns` columns of C += A B. */
ALWAYS_INLINE void add_products(const int rt, const int shape, const int chunk, const int columns, const int soft,
                                const int rows, const int lines, const operands x, softmax_run *run) {
    const int64_t second = x.second;
    if (shape == PAIRS) {
        char *last = NULL;
        for (int column = 0; column < columns; column += rt == 2 ? 2 : 1)
            for (int row = 0; row < rt; row += 4) {
                const char *b = x.b + column * 2 * TILE, *a = x.a + row * 2 * TILE;
                char *to = x.c + row * second + column * TILE;
                tile_load(0, to, 64);
                tile_load(1, to + second, 64);
                PAIR_STEPS(0, 1, 2, 3, 2 * chunk, b + i_ / 2 * x.b_panel + i_ % 2 * TILE,
                           a + i_ / 2 * x.a_panel + i_ % 2 * TILE, a + i_ / 2 * x.a_panel + (2 + i_ % 2) * TILE, last,
                           second, fill_rows(soft, rows, lines, run))
                last = to;
                if (rt == 2)
                    b += 2 * TILE, to += TILE;
                else
                    a += 4 * TILE, to += 2 * second;
                tile_load(2, to, 64);
                tile_load(3, to + second, 64);
                PAIR_STEPS(2, 3, 0, 1, 2 * chunk, b + i_ / 2 * x.b_panel + i_ % 2 * TILE,
                           a + i_ / 2 * x.a_panel + i_ % 2 * TILE, a + i_ / 2 * x.a_panel + (2 + i_ % 2) * TILE, last,
                           second, fill_rows(soft, rows, lines, run))
                last = to;
            }
        tile_store(2, last, 64);
        tile_store(3, last + second, 64);
        return;
    }
    for (int column = 0; column < columns; column += 2)
        for (int row = 0; row < rt; row += 2) {
            const char *b = x.b + column * 2 * TILE, *a = x.a + row * 2 * TILE;
            char *to = x.c + row * second + column * TILE;
            tile_load(0, to, 64);
            tile_load(1, to + TILE, 64);
            tile_load(2, to + second, 64);
            tile_load(3, to + second + TILE, 64);
            SQUARE_STEPS(2 * chunk, b + k_ / 2 * x.b_panel + k_ % 2 * TILE,
                         b + k_ / 2 * x.b_panel + (2 + k_ % 2) * TILE, a + k_ / 2 * x.a_panel + k_ % 2 * TILE,
                         a + k_ / 2 * x.a_panel + (2 + k_ % 2) * TILE, fill_rows(soft, rows, lines, run))
            tile_store(0, to, 64);
            tile_store(1, to + TILE, 64);
            tile_store(2, to + second, 64);
            tile_store(3, to + second + TILE, 64);
        }
}

/* Columns [from, from + columns) of O += P V over `chunk` panels: p [chunk][rt][2], v panels as tokens, o [rt][2
 * depth].
 */
ALWAYS_INLINE void outputs(const int depth, const int rt, const int shape, const int chunk, const int from,
                           const int columns, const int soft, const int rows, const int lines, const char *p,
                           const char *v, char *o, softmax_run *run) {
    const operands x = {.a = p,
                        .b = v + from * 2 * TILE,
                        .c = o + from * TILE,
                        .a_panel = P_PANEL,
                        .b_panel = (int64_t)4 * depth * TILE,
                        .second = (int64_t)2 * depth * TILE};
    add_products(rt, shape, chunk, columns, soft, rows, lines, x, run);
}

/* 64 queries and what is made of them. */
typedef struct job {
    const char *q;     /* rows */
    const char *k, *v; /* panels as dims and as tokens */
    int32_t panels;    /* a multiple of MOST_CHUNK */
    float scale;       /* in log2 units */
    float m[PANEL];    /* references; there are none better, as scores are never far above 0 */
    char *s, *p, *o;   /* [2][16] tiles, [2][MOST_CHUNK][8] tiles, [4][2 depth] tiles */
    float (*sums)[VL]; /* [64] */
    bool far;          /* some score was too far above m */
} job;

ALWAYS_INLINE softmax_run softmax_of(const job *j, const float *start, int half, char *p, float (*sums)[VL],
                                     const softmax_run *before) {
    softmax_run run = {.x = before->x};
    run.x.s = (const float *)(j->s + half * 16 * TILE);
    run.x.p = p;
    run.x.start = start;
    run.x.before = (const float(*)[VL])sums;
    run.x.after = sums;
    run.x.row = 0;
    return run;
}

/* `rt` row tiles of queries from row tile `first` on over `panels` panels. */
ALWAYS_INLINE void walk_rows(const int depth, const int rt, const int first, const int shape, const int chunk,
                             const int soft, const int mix, const int fetch, job *j, const float *start, const char *k,
                             const char *v, int32_t panels) {
    const int64_t panel = (int64_t)4 * depth * TILE;
    const int part = 2 * depth / chunk;               /* columns of O with each panel */
    const int all = mix == 1 ? 8 / depth : 4 / depth; /* rows with every two products */
    const int with_s = mix ? all : 0, with_o = mix == 2 ? all : 0;
    const char *const q = j->q + first * depth * TILE;
    char *const o = j->o + first * 2 * depth * TILE;
    softmax_run run = {.x = {.scale = v_set1(soft == SOFT_WORD ? j->scale * WORD_ONE : j->scale)}};
    if (mix) scores(depth, rt, shape, SOFT_NONE, 0, 0, q, k, j->s, &run);
    for (int32_t i = 0; i < panels; i++) {
        const int32_t within = i % chunk, turn = mix ? i / chunk % 2 : 0;
        char *p = j->p + (turn * MOST_CHUNK + within) * P_PANEL;
        const char *before = j->p + (!turn) * MOST_CHUNK * P_PANEL;
        run = softmax_of(j, start + first * 16, mix ? i % 2 : 0, p, j->sums + first * 16, &run);
        run.ahead = k + (i + 1 < panels ? i + 1 : i) * panel;
        if (!mix) scores(depth, rt, shape, SOFT_NONE, 0, fetch, q, k + i * panel, j->s, &run);
        if (mix && i + 1 < panels)
            scores(depth, rt, shape, soft, with_s, fetch, q, k + (i + 1) * panel, j->s + (i + 1) % 2 * 16 * TILE, &run);
        if (mix && i >= chunk) {
            run.ahead = v + (i + 1 < panels ? i + 1 : i) * panel;
            if (i + 1 < panels)
                outputs(depth, rt, shape, chunk, within * part, part, soft, with_o, fetch, before,
                        v + (i - within - chunk) * panel, o, &run);
            else
                outputs(depth, rt, shape, chunk, within * part, part, soft, 0, 0, before,
                        v + (i - within - chunk) * panel, o, &run);
        }
        while (run.x.row < rt * 16)
            make_row(soft, &run.x);
        if (!mix && within == chunk - 1) {
            run.ahead = v + (i + 1 < panels ? i + 1 : i) * panel;
            outputs(depth, rt, shape, chunk, 0, 2 * depth, SOFT_NONE, 0, fetch, j->p, v + (i - within) * panel, o,
                    &run);
        }
    }
    if (mix) {
        const int32_t turn = (panels / chunk - 1) % 2;
        outputs(depth, rt, shape, chunk, 0, 2 * depth, SOFT_NONE, 0, 0, j->p + turn * MOST_CHUNK * P_PANEL,
                v + (panels - chunk) * panel, o, &run);
    }
    j->far = j->far || passed(&run.x);
}

ALWAYS_INLINE void walk(const int depth, const int rt, const int shape, const int chunk, const int soft, const int mix,
                        const int fetch, job *j) {
    float start[PANEL];
    for (int i = 0; i < PANEL; i++)
        start[i] = soft == SOFT_WORD ? word_start(-j->m[i]) : -j->m[i];
    memset(j->sums, 0, PANEL * sizeof *j->sums);
    memset(j->o, 0, (size_t)8 * (size_t)depth * TILE);
    j->far = false;
    const int32_t together = rt == 4 ? j->panels : STRIP_PANELS;
    for (int32_t i = 0; i < j->panels; i += together)
        for (int first = 0; first < 4; first += rt)
            walk_rows(depth, rt, first, shape, chunk, soft, mix, fetch, j, start, j->k + (int64_t)i * 4 * depth * TILE,
                      j->v + (int64_t)i * 4 * depth * TILE, j->panels - i < together ? j->panels - i : together);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order the forward kernel in tiles takes pairs of a query block and a panel of keys.
 *
 * A core reads K and V from the last-level cache at some 11 GB/s: 3 us for a panel of each at D = 128, half as long
 * again as a pair's work takes. So query blocks that are neighbours and keep mostly the same keys walk together: the
 * keys that any of them keeps are cut into windows that fit the second-level cache beside the queries, one query block
 * after the other walks a window, and meanwhile the next window's panels are fetched, evenly over the pairs. Each
 * query block sees its own keys in ascending order, whoever walks with it, so that its bits do not depend on that.
 */
#ifndef NABLA_AMX_WALK_H
#define NABLA_AMX_WALK_H

#include "amx.h"
#include "inline.h"

#include <stdbool.h>
#include <string.h>

enum {
    TOGETHER = NABLA_MOST_TOGETHER,
    WINDOW = 8 /* panels of K and V: two windows at D = 128 are 512 KB, and as many queries with their sums 270 KB */
};

/* A part of the keys: of each member's list up to `ends`, and the blocks in them. */
typedef struct window {
    int32_t ends[TOGETHER], blocks[WINDOW];
    int32_t block_count, panels, pairs;
} window;

typedef struct pair {
    const char *k, *v; /* dims, tokens */
    int32_t member, keys;
} pair;

/* What to fetch with a pair: so many lines of K, and of V, with every two products of S. */
typedef struct ahead {
    const char *k, *v;
    int32_t lines;
} ahead;

typedef struct pair_walk {
    const nabla_forward_task *tasks[TOGETHER];
    int32_t count;         /* of tasks */
    int32_t at[TOGETHER];  /* of each task's list */
    int32_t member, piece; /* of the next pair: whose it is; of its block */
    window now, next;
    int32_t ahead_block, ahead_piece, ahead_part; /* what comes next of the next window */
    int32_t ahead_lines;
} pair_walk;

static inline int32_t pieces_of(const nabla_forward_task *t, int32_t block) {
    return t->k_pieces[block + 1] - t->k_pieces[block];
}

/* The window that begins at `from` in the members' lists. */
static window take_window(const pair_walk *w, const int32_t *from) {
    window out = {0};
    memcpy(out.ends, from, sizeof out.ends);
    while (out.panels < WINDOW) {
        int32_t block = INT32_MAX;
        for (int32_t m = 0; m < w->count; m++) {
            const nabla_forward_task *t = w->tasks[m];
            if (out.ends[m] < t->block_count && t->blocks[out.ends[m]] < block) block = t->blocks[out.ends[m]];
        }
        if (block == INT32_MAX) break;
        const int32_t pieces = pieces_of(w->tasks[0], block);
        for (int32_t m = 0; m < w->count; m++) {
            const nabla_forward_task *t = w->tasks[m];
            if (out.ends[m] == t->block_count || t->blocks[out.ends[m]] != block) continue;
            out.ends[m]++;
            out.pairs += pieces;
        }
        out.blocks[out.block_count++] = block;
        out.panels += pieces;
    }
    return out;
}

enum { WHOLE_LINES = 8 /* fetch a panel with one pair; half as many take two pairs for it */ };

/* Few enough to be spread over the window's pairs, and enough that the next window is there in time if it can be. */
static inline int32_t lines_of(const window *now, const window *next) {
    int32_t lines = 1;
    while (lines < WHOLE_LINES && lines * now->pairs < WHOLE_LINES * next->panels)
        lines *= 2;
    return lines;
}

static inline pair_walk begin_pairs(const nabla_forward_task *tasks) {
    pair_walk w = {0};
    for (const nabla_forward_task *t = tasks; t; t = t->next)
        w.tasks[w.count++] = t;
    w.next = take_window(&w, w.at);
    return w;
}

static inline bool next_pair(pair_walk *w, pair *out) {
    while (w->at[w->member] == w->now.ends[w->member]) {
        if (++w->member < w->count) continue;
        w->member = 0;
        if (!w->next.block_count) return false;
        w->now = w->next;
        w->next = take_window(w, w->now.ends);
        w->ahead_block = w->ahead_piece = w->ahead_part = 0;
        w->ahead_lines = lines_of(&w->now, &w->next);
    }
    const nabla_forward_task *t = w->tasks[w->member];
    const int32_t block = t->blocks[w->at[w->member]], piece = t->k_pieces[block] + w->piece;
    const int32_t left = t->k_offsets[block + 1] - t->k_offsets[block] - w->piece * PANEL;
    *out = (pair){.k = panel_at(t->packed_k, piece, t->head_dim),
                  .v = panel_at(t->packed_v, piece, t->head_dim),
                  .member = w->member,
                  .keys = left < PANEL ? left : PANEL};
    if (left > PANEL)
        w->piece++;
    else
        w->at[w->member]++, w->piece = 0;
    return true;
}

static inline ahead next_ahead(pair_walk *w) {
    if (w->ahead_block == w->next.block_count) return (ahead){0};
    const nabla_forward_task *t = w->tasks[0];
    const int32_t block = w->next.blocks[w->ahead_block], piece = t->k_pieces[block] + w->ahead_piece;
    const size_t from = panel_bytes(t->head_dim) * (size_t)(w->ahead_part * w->ahead_lines) / WHOLE_LINES;
    const ahead out = {.k = panel_at(t->packed_k, piece, t->head_dim) + from,
                       .v = panel_at(t->packed_v, piece, t->head_dim) + from,
                       .lines = w->ahead_lines};
    if (++w->ahead_part * w->ahead_lines < WHOLE_LINES) return out;
    w->ahead_part = 0;
    if (++w->ahead_piece < pieces_of(t, block)) return out;
    w->ahead_piece = 0;
    w->ahead_block++;
    return out;
}

ALWAYS_INLINE void fetch_some(ahead *a) {
    for (int32_t i = 0; i < a->lines; i++, a->k += 64, a->v += 64) {
        _mm_prefetch(a->k, _MM_HINT_T1);
        _mm_prefetch(a->v, _MM_HINT_T1);
    }
}

#endif

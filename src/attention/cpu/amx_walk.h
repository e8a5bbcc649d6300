/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order the forward kernel in tiles takes pairs of 32 queries and a panel of keys.
 *
 * Neighbouring blocks of queries, the members of a walk, keep mostly the same partners, which come from the last-level
 * cache; halves of members, 32 queries each, lie in the first while they work. So the partners of all are cut into
 * windows that fit the second: within a window each half of each member goes over its own panels. Where each keeps a
 * quarter of 256 blocks by chance, windows of 8 panels in place of 32 took a tenth longer, as a half's Q and O then
 * come and go for two panels' sake, and a walk of four members as well; of 12 or 16 took as long. Prefetching, the next
 * window or the next panel, whole, by halves or by the first lines of pages, made it 4 to 30 % slower.
 *
 * Each half sees its partners in ascending order, whoever walks with it, so that no bits depend on the company.
 */
#ifndef NABLA_AMX_WALK_H
#define NABLA_AMX_WALK_H

#include "amx.h"

#include <stdbool.h>
#include <string.h>

enum {
    TOGETHER = NABLA_MOST_TOGETHER,
    WINDOW_BYTES = 1 << 20 /* of K and V; beside them 400 KB of the members' Q and O at D = 128 */
};

typedef struct pair {
    int32_t member, half;
    int32_t n, piece; /* the partner's panel: its tokens, and what it was packed as */
} pair;

typedef struct pair_walk {
    const int32_t *offsets, *pieces; /* of the partners' blocks */
    const int32_t *lists[TOGETHER];
    int32_t counts[TOGETHER], halves[TOGETHER], members;
    int32_t window;                           /* panels, at least; whole blocks */
    int32_t begins[TOGETHER], ends[TOGETHER]; /* of the window in each list */
    int32_t member, half, at, panel;          /* the next pair: whose, at which of its partners, which panel of it */
} pair_walk;

static inline pair_walk begin_walk(const int32_t *offsets, const int32_t *pieces, int32_t dim) {
    return (pair_walk){
        .offsets = offsets, .pieces = pieces, .window = (int32_t)(WINDOW_BYTES / (2 * packed_panel_bytes(dim)))};
}

static inline void add_member(pair_walk *w, const int32_t *list, int32_t count, int32_t halves) {
    w->lists[w->members] = list;
    w->counts[w->members] = count;
    w->halves[w->members++] = halves;
}

/* False: no member has any partner left. */
static inline bool next_window(pair_walk *w) {
    int32_t panels = 0;
    memcpy(w->begins, w->ends, sizeof w->begins);
    while (panels < w->window) {
        int32_t block = INT32_MAX;
        for (int32_t m = 0; m < w->members; m++)
            if (w->ends[m] < w->counts[m] && w->lists[m][w->ends[m]] < block) block = w->lists[m][w->ends[m]];
        if (block == INT32_MAX) break;
        for (int32_t m = 0; m < w->members; m++)
            w->ends[m] += w->ends[m] < w->counts[m] && w->lists[m][w->ends[m]] == block;
        panels += w->pieces[block + 1] - w->pieces[block];
    }
    w->member = w->half = w->panel = 0;
    w->at = w->begins[0];
    return panels > 0;
}

/* The next half in the window; false: there is none. */
static inline bool next_half(pair_walk *w) {
    if (++w->half == w->halves[w->member]) {
        w->half = 0;
        if (++w->member == w->members) return false;
    }
    w->at = w->begins[w->member];
    return true;
}

/* The first call begins the walk. */
static inline bool next_pair(pair_walk *w, pair *out) {
    while (w->at == w->ends[w->member])
        if (!next_half(w) && !next_window(w)) return false;
    const int32_t block = w->lists[w->member][w->at];
    const int32_t left = w->offsets[block + 1] - w->offsets[block] - w->panel * PANEL;
    *out = (pair){
        .member = w->member, .half = w->half, .n = left < PANEL ? left : PANEL, .piece = w->pieces[block] + w->panel};
    if (++w->panel == w->pieces[block + 1] - w->pieces[block]) {
        w->panel = 0;
        w->at++;
    }
    return true;
}

#endif

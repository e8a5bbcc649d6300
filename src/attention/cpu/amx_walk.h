/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order the forward kernel in tiles takes pairs of 32 queries and a panel of keys.
 *
 * Neighbouring blocks of queries, the members of a walk, keep mostly the same partners, which come from the last-level
 * cache; halves of members, 32 queries each, lie in the first while they work. So the partners of all are cut into
 * windows that fit the second: within a window each half of each member goes over its own panels, and amid its products
 * come panels of the next window, a line after every two: so evenly they cost little, and a pair takes a tenth less
 * where all members keep them; whole panels or windows at once made it longer.
 *
 * Each half sees its partners in ascending order, whoever walks with it, so that no bits depend on the company.
 */
#ifndef NABLA_AMX_WALK_H
#define NABLA_AMX_WALK_H

#include "amx.h"

#include <stdbool.h>
#include <string.h>

enum {
    TOGETHER = NABLA_FORWARD_TOGETHER,
    WINDOW_BYTES = 640 << 10, /* of K and V; beside two such, 576 KB of Q and O at D = 128 */
    PARTS = 16                /* of a panel's K and V, each a line for every two products of a pair at any D */
};

typedef struct pair {
    int32_t member, half;
    int32_t n, piece;    /* the partner's panel: its tokens, and what it was packed as */
    int32_t ahead, part; /* of the next window a panel, -1 where all of it is fetched, and which part of it is next */
} pair;

typedef struct pair_walk {
    const int32_t *offsets, *pieces; /* of the partners' blocks */
    const int32_t *lists[TOGETHER];
    int32_t counts[TOGETHER], halves[TOGETHER], members;
    int32_t window;                           /* panels, at least; whole blocks */
    int32_t begins[TOGETHER], ends[TOGETHER]; /* of the window in each list */
    int32_t member, half, at, panel;          /* the next pair: whose, at which of its partners, which panel of it */
    /* What is fetched of the window after this one: in each list what is left of it; how many panels it has so far, of
       which these are left; and of the first of them parts are done. */
    int32_t fetched[TOGETHER], found, first, last, part;
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

/* The least block in which any list goes on, and past it in all of them; -1: they are at their ends. */
static inline int32_t take_block(const pair_walk *w, int32_t *at) {
    int32_t block = INT32_MAX;
    for (int32_t m = 0; m < w->members; m++)
        if (at[m] < w->counts[m] && w->lists[m][at[m]] < block) block = w->lists[m][at[m]];
    for (int32_t m = 0; m < w->members; m++)
        at[m] += at[m] < w->counts[m] && w->lists[m][at[m]] == block;
    return block < INT32_MAX ? block : -1;
}

/* False: no member has any partner left. */
static inline bool next_window(pair_walk *w) {
    int32_t panels = 0;
    memcpy(w->begins, w->ends, sizeof w->begins);
    for (int32_t block; panels < w->window && (block = take_block(w, w->ends)) >= 0;)
        panels += w->pieces[block + 1] - w->pieces[block];
    w->member = w->half = w->panel = 0;
    w->at = w->begins[0];
    memcpy(w->fetched, w->ends, sizeof w->fetched);
    w->found = w->first = w->last = w->part = 0;
    return panels > 0;
}

/* What to fetch amid the next pair. */
static inline void next_part(pair_walk *w, pair *out) {
    if (w->part == PARTS) {
        w->part = 0;
        w->first++;
    }
    if (w->first == w->last) {
        const int32_t block = w->found < w->window ? take_block(w, w->fetched) : -1;
        if (block < 0) {
            out->ahead = -1;
            return;
        }
        w->first = w->pieces[block];
        w->last = w->pieces[block + 1];
        w->found += w->last - w->first;
    }
    out->ahead = w->first;
    out->part = w->part++;
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
    next_part(w, out);
    return true;
}

#endif

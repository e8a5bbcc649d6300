/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order the forward kernel in tiles takes pairs of blocks, panel by panel.
 *
 * A core reads from the last-level cache at some 11 GB/s: K and V of a panel in 3 us at D = 128, longer than a pair's
 * work takes. So neighbouring blocks, the members of a walk, which keep mostly the same partners, walk together: panel
 * by panel of all that any of them keeps, one member after the other, so that a panel comes to the second-level cache
 * once and to the first for several pairs. The partners are cut into windows, and while one is walked the next one's
 * panels are fetched, evenly over the pairs. Each member sees its own partners in ascending order, whoever walks with
 * it, and members ascend within a panel, so that no bits depend on the company.
 */
#ifndef NABLA_AMX_WALK_H
#define NABLA_AMX_WALK_H

#include "amx.h"
#include "inline.h"

#include <stdbool.h>
#include <string.h>

enum { TOGETHER = NABLA_MOST_TOGETHER, MOST_WINDOW = 8 };

/* A part of the partners: of each member's list up to `ends`, and the blocks in them. */
typedef struct window {
    int32_t ends[TOGETHER], blocks[MOST_WINDOW];
    int32_t block_count, panels, pairs;
} window;

typedef struct pair {
    int32_t member;
    int32_t n, piece; /* the partner's panel: its tokens, and what it was packed as */
} pair;

/* What to fetch with a pair: a share of a piece, from / WHOLE_LINES of it on, `lines` / WHOLE_LINES long; 0: nothing.
 */
enum { WHOLE_LINES = 8 };
typedef struct ahead {
    int32_t piece, from, lines;
} ahead;

typedef struct pair_walk {
    const int32_t *offsets, *pieces; /* of the partners' blocks */
    const int32_t *lists[TOGETHER];
    int32_t counts[TOGETHER], at[TOGETHER];
    int32_t members, window_panels;
    int32_t block, piece, member; /* of the next pair: which of the window's, which of its panels, whose at the least */
    bool begun;
    window now, next;
    int32_t ahead_block, ahead_piece, ahead_from, ahead_lines; /* what comes next of the next window */
} pair_walk;

/* The window that begins at `from` in the members' lists. */
static inline window take_window(const pair_walk *w, const int32_t *from) {
    window out = {0};
    memcpy(out.ends, from, sizeof out.ends);
    while (out.panels < w->window_panels) {
        int32_t block = INT32_MAX;
        for (int32_t m = 0; m < w->members; m++)
            if (out.ends[m] < w->counts[m] && w->lists[m][out.ends[m]] < block) block = w->lists[m][out.ends[m]];
        if (block == INT32_MAX) break;
        const int32_t pieces = w->pieces[block + 1] - w->pieces[block];
        for (int32_t m = 0; m < w->members; m++)
            if (out.ends[m] < w->counts[m] && w->lists[m][out.ends[m]] == block) {
                out.ends[m]++;
                out.pairs += pieces;
            }
        out.blocks[out.block_count++] = block;
        out.panels += pieces;
    }
    return out;
}

/* Few enough to be spread over the window's pairs, and enough that the next window is there in time if it can be. */
static inline int32_t lines_of(const window *now, const window *next) {
    int32_t lines = 1;
    while (lines < WHOLE_LINES && lines * now->pairs < WHOLE_LINES * next->panels)
        lines *= 2;
    return lines;
}

static inline void add_member(pair_walk *w, const int32_t *list, int32_t count) {
    w->lists[w->members] = list;
    w->counts[w->members++] = count;
}

/* Whether the block is a member's next. */
static inline bool keeps(const pair_walk *w, int32_t member, int32_t block) {
    return w->at[member] < w->counts[member] && w->lists[member][w->at[member]] == block;
}

static inline void next_window(pair_walk *w) {
    w->now = w->begun ? w->next : take_window(w, w->at);
    w->begun = true;
    w->next = take_window(w, w->now.ends);
    w->block = 0;
    w->ahead_block = w->ahead_piece = w->ahead_from = 0;
    w->ahead_lines = lines_of(&w->now, &w->next);
}

/* After all members' pairs with a panel. */
static inline void next_panel(pair_walk *w, int32_t block) {
    w->member = 0;
    if (++w->piece < w->pieces[block + 1] - w->pieces[block]) return;
    w->piece = 0;
    w->block++;
    for (int32_t m = 0; m < w->members; m++)
        w->at[m] += keeps(w, m, block);
}

/* The first call begins the walk. */
static inline bool next_pair(pair_walk *w, pair *out) {
    for (;;) {
        if (w->block == w->now.block_count) next_window(w);
        if (!w->now.block_count) return false;
        const int32_t block = w->now.blocks[w->block];
        while (w->member < w->members && !keeps(w, w->member, block))
            w->member++;
        if (w->member < w->members) {
            const int32_t left = w->offsets[block + 1] - w->offsets[block] - w->piece * PANEL;
            *out =
                (pair){.member = w->member++, .n = left < PANEL ? left : PANEL, .piece = w->pieces[block] + w->piece};
            return true;
        }
        next_panel(w, block);
    }
}

static inline ahead next_ahead(pair_walk *w) {
    if (w->ahead_block == w->next.block_count) return (ahead){0};
    const int32_t block = w->next.blocks[w->ahead_block];
    const ahead out = {.piece = w->pieces[block] + w->ahead_piece, .from = w->ahead_from, .lines = w->ahead_lines};
    w->ahead_from += w->ahead_lines;
    if (w->ahead_from < WHOLE_LINES) return out;
    w->ahead_from = 0;
    if (++w->ahead_piece < w->pieces[block + 1] - w->pieces[block]) return out;
    w->ahead_piece = 0;
    w->ahead_block++;
    return out;
}

#endif

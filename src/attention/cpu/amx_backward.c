/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward kernels in tiles, from P = exp2(S - LSE) computed again:
 *
 *     S = Q K^T, dP = dO V^T, dS = P (alpha dP - delta),
 *     dV^T += dO^T P, dK^T += Q^T dS (of one panel of keys), dQ += dS K.
 *
 * Rows are queries, in backward_kv and in backward_q: both make the same dS and add the same products to dQ in the same
 * order, so that both give the same bits. What every block pair reads is packed once a head (see amx_backward.h).
 *
 * dK, dV and dQ are as large as all else that a pair touches, and a tile that must be written back from the first-level
 * cache costs three that are read into it. So the pairs of a few panels of queries, a window, are taken together: first
 * P and dS of all that a panel of keys keeps, then what they add to its dK and dV, and after all panels of keys that
 * walk together what their dS adds to dQ.
 *
 * On a Xeon, D = 128, a pair takes 4.4 us where neighbours keep the same blocks (2.24 are the products), 6.9 alone, and
 * of blocks kept by chance half as long again as of the same ones: the rest is the last-level cache, from which a
 * window comes as the products reach it (docs/amx.md). Windows of four panels and four panels of keys together, and all
 * that is read going through the first-level cache, took a tenth longer. Of 4.4 us P and dS with their products take
 * 1.7, the sums for keys 1.1.
 *
 * What was slower, or no faster: prefetching, by a strip's or a page's first lines, or all lines spread over the
 * products of the window before; huge pages; padding that keeps what is stored and what is loaded apart modulo a page;
 * accumulators in two pairs that take turns; the sums' squares between the strips of the next pairs, P and dS amid both
 * (10 % slower: the first-level cache then holds the operands of neither); exp2 by a table, which with no exp2 at all
 * would gain 3 %. And of fewer bytes: cols made of rows whenever a window meets them (stores that miss the first-level
 * cache take as long as the one behind takes to give cols), or rows copied then too (9 % slower); dS of many keys kept
 * for a pass over queries (4 % faster where blocks are kept by chance, 5 to 11 % slower where neighbours agree); dQ in
 * tiles, begun with its first sum instead of zeros (1 % faster); 4 to 16 panels of keys by 4 to 16 of queries (all
 * within 2 %, or slower).
 */
#include "amx_backward.h"
#include "amx_gradients.h"
#include "amx_sums.h"

#include <math.h>
#include <string.h>

enum { TOGETHER = NABLA_MOST_TOGETHER, WINDOW = 8 };
_Static_assert((int)WINDOW <= (int)MOST_IN_SUM, "a sum takes a window");

typedef struct scratch {
    half_scores scores[2];
    float minus_lse[WINDOW][PANEL], minus_delta[WINDOW][PANEL];                              /* in log2 units */
    _Alignas(64) uint16_t p_tokens[WINDOW][PANEL * PANEL], ds_tokens[WINDOW][PANEL * PANEL]; /* tokens [4][2] */
    uint16_t ds_rows[TOGETHER * WINDOW][PANEL * PANEL];                                      /* rows [4][2] */
    char tiles[]; /* dQ of a panel as [4][padded D / 16], then of each member dK^T and dV^T as [padded D / 16][4] */
} scratch;

static size_t sum_bytes(int32_t dim) {
    return PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

size_t amx_backward_scratch(int32_t dim) {
    return sizeof(scratch) + (1 + 2 * TOGETHER) * sum_bytes(dim);
}

/* ---- P and dS */

/* Pairs whose P and dS are made together. */
typedef struct chunk {
    pair_terms pairs[WINDOW];
    int32_t queries[WINDOW]; /* what the panels were packed as */
    uint64_t none[WINDOW];   /* a bit a query without probabilities: no key had one, or past the panel's queries */
    int32_t count;
} chunk;

/* ds_rows: where dS goes. */
static void add_pair(chunk *c, const nabla_backward_task *t, panel queries, panel keys, uint16_t *ds_rows) {
    scratch *x = t->scratch;
    const int32_t at = c->count++;
    c->none[at] = 0;
    for (int32_t i = 0; i < PANEL; i += VL) {
        const int32_t n = queries.n - i > 0 ? queries.n - i : 0;
        const vf lse = v_load_n(t->lse + queries.first + i, n), never = v_set1(-INFINITY);
        const uint32_t some = first_lanes(n) & ~v_equal(lse, never);
        c->none[at] |= (uint64_t)(some ^ first_lanes(VL)) << i;
        v_store(x->minus_lse[at] + i, v_pick(some, v_mul(lse, v_set1(-LOG2_E)), never));
        v_store(x->minus_delta[at] + i, v_sub(v_zero(), v_load_n(t->delta + queries.first + i, n)));
    }
    c->queries[at] = queries.piece;
    c->pairs[at] = (pair_terms){.q = query_form(t, queries.piece, Q_ROWS),
                                .d_o = query_form(t, queries.piece, DO_ROWS),
                                .k = key_form(t, keys.piece, K_DIMS),
                                .v = key_form(t, keys.piece, V_DIMS),
                                .minus_lse = x->minus_lse[at],
                                .minus_delta = x->minus_delta[at],
                                .ds_rows = ds_rows,
                                .p_tokens = x->p_tokens[at],
                                .ds_tokens = x->ds_tokens[at],
                                .keys = keys.n};
}

ALWAYS_INLINE void gradients_of_chunk(const int32_t depth, const int units, const bool tokens,
                                      const gradients_job *job) {
    for (int32_t half = 0; half < KEY_HALVES; half++)
        half_gradients(depth, units, tokens, job, half);
}

/* tokens: also as dV and dK take them. */
static __attribute__((noinline)) void make_gradients(const nabla_backward_task *t, bool tokens, chunk *c) {
    scratch *x = t->scratch;
    const int32_t depth = padded_dim(t->head_dim) / 32;
    const gradients_job job = {
        .scores = x->scores, .scale_log2 = t->scale * LOG2_E, .alpha = t->alpha, .pairs = c->pairs, .count = c->count};
    if (depth == 4 && tokens)
        gradients_of_chunk(4, 1, true, &job);
    else if (depth == 4)
        gradients_of_chunk(4, 1, false, &job);
    else if (depth == 2 && tokens)
        gradients_of_chunk(2, 2, true, &job);
    else if (depth == 2)
        gradients_of_chunk(2, 2, false, &job);
    else if (tokens)
        gradients_of_chunk(depth, 0, true, &job);
    else
        gradients_of_chunk(depth, 0, false, &job);
    for (int32_t i = 0; i < c->count; i++)
        if (c->none[i]) clear_rows(tokens, c->pairs + i, c->none[i]);
}

/* Where dS of a task's i-th partner is kept. */
static uint16_t *kept_ds(const nabla_backward_task *t, int32_t i) {
    return (uint16_t *)t->ds + (size_t)t->ds_at[i] * PANEL * PANEL;
}

/* ---- dQ of a panel of queries: 64 whole rows as they lie, or else tiles */

static bool lies_in_tiles(const nabla_backward_task *t, int32_t n) {
    return n < PANEL || t->head_dim != padded_dim(t->head_dim);
}

static sum_tiles take_dq(const nabla_backward_task *t, panel queries) {
    const int32_t dim = t->head_dim;
    const float *rows = t->dq + (int64_t)queries.first * dim;
    if (!lies_in_tiles(t, queries.n))
        return (sum_tiles){.at = (char *)(uintptr_t)rows, .second = 64 * dim, .step = 64, .stride = 4 * dim};
    scratch *x = t->scratch;
    char *tiles = x->tiles;
    const int32_t columns = padded_dim(dim) / VL;
    for (int32_t r = 0; r < PANEL; r++)
        for (int32_t d = 0; d < columns; d++)
            v_store((float *)tiles + (r / 16 * columns + d) * TILE_FLOATS + r % 16 * VL,
                    r < queries.n && d * VL < dim ? v_load_n(rows + r * dim + d * VL, dim - d * VL) : v_zero());
    return (sum_tiles){.at = tiles, .second = columns * TILE, .step = TILE, .stride = 64};
}

static void give_dq(const nabla_backward_task *t, panel queries, sum_tiles from) {
    const int32_t dim = t->head_dim, columns = padded_dim(dim) / VL;
    if (!lies_in_tiles(t, queries.n)) return;
    float *rows = t->dq + (int64_t)queries.first * dim;
    for (int32_t r = 0; r < queries.n; r++)
        for (int32_t d = 0; d * VL < dim; d++)
            v_store_n(rows + r * dim + d * VL, dim - d * VL,
                      v_load((float *)from.at + (r / 16 * columns + d) * TILE_FLOATS + r % 16 * VL));
}

static void add_term(token_sum *x, const nabla_backward_task *t, const uint16_t *ds, int32_t keys) {
    x->a[x->panels] = (const char *)ds;
    x->b[x->panels++] = key_form(t, keys, K_TOKENS);
}

static void add_to_dq(const nabla_backward_task *t, token_sum *x, sum_tiles *last) {
    if (x->panels) add_sum(true, x, PANEL / VL, padded_dim(t->head_dim) / VL, last);
    x->panels = 0;
}

/* ---- keys: their dK and dV, and dQ with it */

/* A place in a task's list of partners: which block, and which of its panels. */
typedef struct place {
    int32_t block, panel;
} place;

/* A panel of keys on its way over the queries that keep it. */
typedef struct member {
    const nabla_backward_task *task;
    panel keys;
    place at;
    char *dk, *dv;
    bool started; /* dk and dv hold something */
} member;

/* A pair whose dS is made and not yet added to dQ. */
typedef struct pending {
    panel queries;
    int32_t keys; /* what the panel was packed as */
    const uint16_t *ds;
} pending;

typedef struct walk {
    member members[TOGETHER];
    int32_t count;
    pending waiting[TOGETHER * WINDOW]; /* members ascend, and queries of each */
    int32_t waiting_count;
} walk;

/* The number of the panel at a place; INT32_MAX past the last. */
static int32_t piece_at(const nabla_backward_task *t, place at) {
    return at.block < t->block_count ? t->q_pieces[t->blocks[at.block]] + at.panel : INT32_MAX;
}

static place after(const nabla_backward_task *t, place at) {
    const int32_t block = t->blocks[at.block];
    const bool within = t->q_pieces[block] + at.panel + 1 < t->q_pieces[block + 1];
    return within ? (place){at.block, at.panel + 1} : (place){at.block + 1, 0};
}

/* The last of the next WINDOW panels of queries that any member keeps; negative: there are none. */
static int32_t window_end(const walk *w) {
    place at[TOGETHER];
    int32_t end = -1;
    for (int32_t m = 0; m < w->count; m++)
        at[m] = w->members[m].at;
    for (int32_t n = 0; n < WINDOW; n++) {
        int32_t least = INT32_MAX;
        for (int32_t m = 0; m < w->count; m++) {
            const int32_t piece = piece_at(w->members[m].task, at[m]);
            if (piece < least) least = piece;
        }
        if (least == INT32_MAX) break;
        for (int32_t m = 0; m < w->count; m++)
            if (piece_at(w->members[m].task, at[m]) == least) at[m] = after(w->members[m].task, at[m]);
        end = least;
    }
    return end;
}

/* Adds what waits to dQ: to each panel of queries its dS by all members, in their order. */
static void add_waiting(const nabla_backward_task *t, walk *w) {
    bool added[TOGETHER * WINDOW] = {false};
    sum_tiles last = {.at = NULL};
    for (int32_t i = 0; i < w->waiting_count; i++) {
        if (added[i]) continue;
        const panel queries = w->waiting[i].queries;
        token_sum x = {.c = take_dq(t, queries)};
        for (int32_t j = i; j < w->waiting_count; j++) {
            const pending *p = w->waiting + j;
            if (p->queries.piece != queries.piece) continue;
            added[j] = true;
            add_term(&x, t, p->ds, p->keys);
            if (x.panels == WINDOW) add_to_dq(t, &x, &last);
        }
        add_to_dq(t, &x, &last);
        if (lies_in_tiles(t, queries.n)) store_last_square(&last); /* the next panel's will lie there */
        give_dq(t, queries, x.c);
    }
    store_last_square(&last);
    w->waiting_count = 0;
}

/* dV^T and dK^T of the keys += the chunk's queries' cols by the tokens of P and dS. */
static void add_for_keys(member *m, const chunk *c) {
    const nabla_backward_task *t = m->task;
    const int32_t rows = padded_dim(t->head_dim) / VL;
    token_sum v = {.panels = c->count, .fresh = !m->started, .c = {m->dv, PANEL / VL * TILE, TILE, 64}}, k = v;
    k.c.at = m->dk;
    for (int32_t i = 0; i < c->count; i++) {
        v.a[i] = query_form(t, c->queries[i], DO_COLS);
        v.b[i] = (const char *)c->pairs[i].p_tokens;
        k.a[i] = query_form(t, c->queries[i], Q_COLS);
        k.b[i] = (const char *)c->pairs[i].ds_tokens;
    }
    sum_tiles last = {.at = NULL};
    add_sum(false, &v, rows, PANEL / VL, &last);
    add_sum(false, &k, rows, PANEL / VL, &last);
    store_last_square(&last);
    m->started = true;
}

/* A member's pairs up to the window's end. */
static void walk_window(walk *w, member *m, int32_t end) {
    const nabla_backward_task *t = m->task;
    scratch *x = t->scratch;
    chunk c = {.count = 0};
    for (; piece_at(t, m->at) <= end; m->at = after(t, m->at)) {
        panel queries;
        panel_of(t->q_offsets, t->q_pieces, t->blocks[m->at.block], m->at.panel, &queries);
        uint16_t *ds = t->ds ? kept_ds(t, m->at.block) : x->ds_rows[w->waiting_count];
        add_pair(&c, t, queries, m->keys, ds);
        if (t->dq) w->waiting[w->waiting_count++] = (pending){queries, m->keys.piece, ds};
    }
    if (!c.count) return;
    make_gradients(t, true, &c);
    add_for_keys(m, &c);
}

/* factor times [padded D / 16][4] tiles, keys as in tokens, transposed, to n rows of D. */
static void write_gradient(const char *tiles, int32_t n, int32_t dim, float factor, float *out, int64_t stride) {
    for (int32_t d = 0; d < dim; d += 16)
        for (int32_t tile = 0; tile < 4; tile++, tiles += TILE) {
            tile_row r[16];
            for (int i = 0; i < 16; i++)
                r[i] = _mm512_load_si512(tiles + i * 64);
            transpose(r);
            for (int i = 0; i < 16; i++) {
                const int32_t key = tile / 2 * KEY_HALF + key_in_tokens(tile % 2, i);
                if (key < n) v_store_n(out + key * stride + d, dim - d, v_mul(v_set1(factor), (vf)r[i]));
            }
        }
}

/* Gives the members their gradients. */
static void run_walk(walk *w) {
    const nabla_backward_task *t = w->members[0].task;
    const int32_t dim = t->head_dim;
    for (int32_t end; (end = window_end(w)) >= 0;) {
        for (int32_t i = 0; i < w->count; i++)
            walk_window(w, w->members + i, end);
        add_waiting(t, w);
    }
    for (int32_t i = 0; i < w->count; i++) {
        const member *m = w->members + i;
        const nabla_backward_task *own = m->task;
        const int64_t row = m->keys.first - own->k_offsets[own->block];
        if (!m->started) memset(m->dk, 0, 2 * sum_bytes(dim));
        write_gradient(m->dk, m->keys.n, dim, t->scale, own->dk + row * own->dk_stride, own->dk_stride);
        write_gradient(m->dv, m->keys.n, dim, t->alpha, own->dv + row * own->dv_stride, own->dv_stride);
    }
    w->count = 0;
}

static const tile_config config = FULL_TILES;

NABLA_DECL_BACKWARD(amx_backward_kv) {
    const size_t bytes = sum_bytes(task->head_dim);
    scratch *x = task->scratch;
    walk w = {.count = 0};
    panel keys;
    tile_configure(&config);
    for (const nabla_backward_task *t = task; t; t = t->next)
        for (int32_t i = 0; keys_of(t, i, &keys); i++) {
            if (w.count == TOGETHER) run_walk(&w);
            char *const dk = x->tiles + (1 + 2 * (size_t)w.count) * bytes;
            w.members[w.count++] = (member){.task = t, .keys = keys, .dk = dk, .dv = dk + bytes};
        }
    if (w.count) run_walk(&w);
    tile_release();
}

/* ---- queries: their dQ alone */

/* Adds the dS of a chunk, made first where it is not kept, to dQ; both are then empty. */
static void add_chunk(const nabla_backward_task *t, chunk *c, token_sum *sum, sum_tiles *last) {
    if (c->count) {
        store_last_square(last);
        make_gradients(t, false, c);
    }
    c->count = 0;
    add_to_dq(t, sum, last);
}

/* dQ of a panel of queries over the keys that it keeps. */
static void walk_keys(const nabla_backward_task *t, panel queries) {
    scratch *x = t->scratch;
    token_sum sum = {.c = take_dq(t, queries)};
    sum_tiles last = {.at = NULL};
    chunk c = {.count = 0};
    for (int32_t i = 0; i < t->block_count; i++) {
        panel keys;
        for (int32_t j = 0; panel_of(t->k_offsets, t->k_pieces, t->blocks[i], j, &keys); j++) {
            uint16_t *ds = t->ds ? kept_ds(t, i) : x->ds_rows[c.count];
            if (!t->ds) add_pair(&c, t, queries, keys, ds);
            add_term(&sum, t, ds, keys.piece);
            if (sum.panels == WINDOW) add_chunk(t, &c, &sum, &last);
        }
    }
    add_chunk(t, &c, &sum, &last);
    store_last_square(&last);
    give_dq(t, queries, sum.c);
}

NABLA_DECL_BACKWARD(amx_backward_q) {
    panel queries;
    tile_configure(&config);
    for (int32_t i = 0; queries_of(task, i, &queries); i++)
        walk_keys(task, queries);
    tile_release();
}

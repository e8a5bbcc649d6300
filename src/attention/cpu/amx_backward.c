/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward kernels in tiles, from P = exp2(S - LSE) computed again:
 *
 *     S = Q K^T, dP = dO V^T, dS = P (alpha dP - delta),
 *     dV^T += dO^T P, dK^T += Q^T dS (of one panel of keys), dQ += dS K.
 *
 * Rows are queries, in backward_kv and in backward_q: both make the same dS and add the same products to dQ in the same
 * order, so that both give the same bits. What every block pair reads is packed once a head, in the form its product
 * takes. S and dP of the next strip of 16 queries run while P and dS of this one are made between their products: of
 * whole pairs they would fill the first-level cache. Four forms of a panel of queries and its dQ are twice what a core
 * reads from the last-level cache while it works on a pair, so panels of keys walk together (see amx_walk.h), panel by
 * panel of the queries.
 */
#include "amx_backward.h"
#include "amx_products.h"
#include "amx_walk.h"

#include <math.h>

typedef struct scratch {
    strip_scores s[2], dp[2];                                   /* of this strip and the next */
    uint16_t p_tokens[PANEL * PANEL], ds_tokens[PANEL * PANEL]; /* tokens [4][2] */
    uint16_t ds_rows[PANEL * PANEL];                            /* rows [4][2] */
    float minus_lse[2][PANEL], minus_delta[2][PANEL];           /* of the queries; in log2 units */
    _Alignas(64) char tiles[]; /* dQ of a panel as [4][padded D / 16], then of each member dK^T and dV^T as
                                  [padded D / 16][4] */
} scratch;

static size_t sum_bytes(int32_t dim) {
    return PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

size_t amx_backward_scratch(int32_t dim) {
    return sizeof(scratch) + (1 + 2 * TOGETHER) * sum_bytes(dim);
}

/* ---- a panel of queries by a panel of keys */

/* Of a pair while its S and dP become P and dS. */
typedef struct step {
    panel queries, keys;
    float *minus_lse, *minus_delta;
    uint16_t *ds; /* rows [4][2] */
} step;

/* Where the dS of a task's i-th partner goes. */
static uint16_t *ds_of(const nabla_backward_task *t, int32_t i) {
    scratch *x = t->scratch;
    return t->ds ? (uint16_t *)t->ds + (size_t)t->ds_at[i] * PANEL * PANEL : x->ds_rows;
}

/* partner: its number in the task's list, by which its dS is kept. turn: 0 and 1 in turn. */
static step step_of(const nabla_backward_task *t, panel queries, panel keys, int32_t partner, int32_t turn) {
    scratch *x = t->scratch;
    step out = {.queries = queries,
                .keys = keys,
                .minus_lse = x->minus_lse[turn],
                .minus_delta = x->minus_delta[turn],
                .ds = ds_of(t, partner)};
    for (int32_t i = 0; i < PANEL; i += VL) {
        const int32_t n = queries.n - i > 0 ? queries.n - i : 0;
        const vf lse = v_load_n(t->lse + queries.first + i, n), never = v_set1(-INFINITY);
        /* no probability where no key had one, nor past the queries */
        const uint32_t some = first_lanes(n) & ~v_equal(lse, never);
        v_store(out.minus_lse + i, v_pick(some, v_mul(lse, v_set1(-LOG2_E)), never));
        v_store(out.minus_delta + i, v_sub(v_zero(), v_load_n(t->delta + queries.first + i, n)));
    }
    return out;
}

/* What to fetch: lines with every unit. */
typedef struct stream {
    const char *at;
    int32_t lines;
} stream;
typedef struct streams {
    stream forms, dq;
} streams;

/* P and dS of a strip on their way from its S and dP, unit by unit: of 2 queries by 32 keys. Never given to a call, so
   that it lies in registers: in memory it would be read again after every tile instruction. */
typedef struct gradients {
    const float *s, *dp, *minus_lse, *minus_delta;
    uint16_t *ds, *p_tokens, *ds_tokens;
    vf scale_log2, alpha;
    uint64_t keys; /* a bit a key */
    uint32_t unit;
} gradients;

enum { UNITS = STRIP }; /* a strip: 8 pairs of queries, each by 2 x 32 keys */

static inline gradients gradients_of(const nabla_backward_task *t, const step *x, int32_t strip) {
    scratch *at = t->scratch;
    const int32_t to = strip / 2 * (TILE / 2) + strip % 2 * (TILE / 4);
    return (gradients){.s = at->s[strip % 2].tiles[0],
                       .dp = at->dp[strip % 2].tiles[0],
                       .minus_lse = x->minus_lse + strip * STRIP,
                       .minus_delta = x->minus_delta + strip * STRIP,
                       .ds = x->ds + strip * TILE,
                       .p_tokens = at->p_tokens + to,
                       .ds_tokens = at->ds_tokens + to,
                       .scale_log2 = v_set1(t->scale * LOG2_E),
                       .alpha = v_set1(t->alpha),
                       .keys = x->keys.n == PANEL ? ~UINT64_C(0) : (UINT64_C(1) << x->keys.n) - 1};
}

static inline void store_pairs(uint16_t *to, vf even, vf odd) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
}

/* terms: also what dV and dK take. */
ALWAYS_INLINE void gradient_unit(const bool terms, gradients *g) {
    const uint32_t half = g->unit % 2, row = g->unit / 2 * 2;
    const int64_t at = 2 * half * TILE_FLOATS + row * VL;
    const float *lse = g->minus_lse + row, *delta = g->minus_delta + row;
    const vf never = v_set1(-INFINITY);
    vf p[2][2], ds[2][2]; /* [row][tile of keys] */
    UNROLLED
    for (int i = 0; i < 2; i++) {
        UNROLLED
        for (int j = 0; j < 2; j++) {
            const int64_t here = at + j * TILE_FLOATS + i * VL;
            const vf x = v_fma(v_load(g->s + here), g->scale_log2, v_set1(lse[i]));
            p[i][j] = v_exp2(v_pick((uint32_t)(g->keys >> (32 * half + 16 * (uint32_t)j)), x, never));
            ds[i][j] = v_mul(p[i][j], v_fma(v_load(g->dp + here), g->alpha, v_set1(delta[i])));
        }
        uint16_t *rows = g->ds + half * (TILE / 2) + (row + (uint32_t)i) * 32;
        _mm512_store_si512(rows, (__m512i)_mm512_cvtne2ps_pbh(ds[i][1], ds[i][0]));
    }
    if (terms) {
        const int64_t to = 4 * half * (TILE / 2) + row * 16;
        UNROLLED
        for (int j = 0; j < 2; j++) {
            store_pairs(g->p_tokens + to + j * TILE, p[0][j], p[1][j]);
            store_pairs(g->ds_tokens + to + j * TILE, ds[0][j], ds[1][j]);
        }
    }
    g->unit++;
}

ALWAYS_INLINE void fetch_some(stream *x) {
    for (int32_t line = 0; line < x->lines; line++, x->at += 64)
        _mm_prefetch(x->at, _MM_HINT_T1);
}

ALWAYS_INLINE void some_units(const bool terms, const int units, gradients *g, streams *fetch) {
    UNROLLED
    for (int i = 0; i < units; i++) {
        gradient_unit(terms, g);
        fetch_some(&fetch->forms);
        fetch_some(&fetch->dq);
    }
}

ALWAYS_INLINE void rest_of_units(const bool terms, gradients *g) {
    while (g->unit < UNITS)
        gradient_unit(terms, g);
}

/* S and dP of a pair's strip, with `units` of another one's gradients after every two products. */
ALWAYS_INLINE void scores(const int32_t depth, const bool terms, const int units, const nabla_backward_task *t,
                          const step *x, int32_t strip, gradients *g, streams *fetch) {
    scratch *to = t->scratch;
    const int64_t row = (int64_t)strip * depth * TILE;
    STRIP_OVER_DIMS(depth, query_form(t, x->queries.piece, Q_ROWS) + row, key_form(t, x->keys.piece, K_DIMS),
                    to->s + strip % 2, some_units(terms, units, g, fetch));
    STRIP_OVER_DIMS(depth, query_form(t, x->queries.piece, DO_ROWS) + row, key_form(t, x->keys.piece, V_DIMS),
                    to->dp + strip % 2, some_units(terms, units, g, fetch));
}

static __attribute__((noinline)) void scores_alone(int32_t depth, const nabla_backward_task *t, const step *x,
                                                   int32_t strip) {
    scores(depth, false, 0, t, x, strip, NULL, NULL);
}

/* P and dS of a pair, whose first strip's S and dP are there; amid it those of the others, and of the first one of the
   next pair; next NULL: there is none. */
ALWAYS_INLINE void gradients_of_pair(const int32_t depth, const bool terms, const int units,
                                     const nabla_backward_task *t, const step *now,
                                     const nabla_backward_task *next_task, const step *next, streams fetch) {
    for (int32_t strip = 0; strip < STRIPS; strip++) {
        const bool within = strip + 1 < STRIPS;
        const nabla_backward_task *then_task = within ? t : next_task;
        const step *then = within ? now : next;
        gradients g = gradients_of(t, now, strip);
        if (units && then)
            scores(depth, terms, units, then_task, then, (strip + 1) % STRIPS, &g, &fetch);
        else if (then)
            scores_alone(depth, then_task, then, (strip + 1) % STRIPS);
        rest_of_units(terms, &g);
    }
}

/* What dQ of a panel is added to: 64 whole rows as they lie, or else tiles. */
typedef struct dq_panel {
    char *data;
    int64_t second, step, stride; /* see operands */
} dq_panel;

static bool lies_in_tiles(const nabla_backward_task *t, int32_t n) {
    return n < PANEL || t->head_dim != padded_dim(t->head_dim);
}

static dq_panel take_dq(const nabla_backward_task *t, panel queries) {
    const int32_t dim = t->head_dim;
    const float *rows = t->dq + (int64_t)queries.first * dim;
    if (!lies_in_tiles(t, queries.n))
        return (dq_panel){.data = (char *)(uintptr_t)rows, .second = 64 * dim, .step = 64, .stride = 4 * dim};
    scratch *x = t->scratch;
    char *tiles = x->tiles;
    const int32_t columns = padded_dim(dim) / VL;
    for (int32_t r = 0; r < PANEL; r++)
        for (int32_t d = 0; d < columns; d++)
            v_store((float *)tiles + (r / 16 * columns + d) * TILE_FLOATS + r % 16 * VL,
                    r < queries.n && d * VL < dim ? v_load_n(rows + r * dim + d * VL, dim - d * VL) : v_zero());
    return (dq_panel){.data = tiles, .second = columns * TILE, .step = TILE, .stride = 64};
}

static void give_dq(const nabla_backward_task *t, panel queries, dq_panel from) {
    const int32_t dim = t->head_dim, columns = padded_dim(dim) / VL;
    if (!lies_in_tiles(t, queries.n)) return;
    float *rows = t->dq + (int64_t)queries.first * dim;
    for (int32_t r = 0; r < queries.n; r++)
        for (int32_t d = 0; d * VL < dim; d++)
            v_store_n(rows + r * dim + d * VL, dim - d * VL,
                      v_load((float *)from.data + (r / 16 * columns + d) * TILE_FLOATS + r % 16 * VL));
}

ALWAYS_INLINE void add_dq(const int32_t depth, const nabla_backward_task *t, const uint16_t *ds, panel keys,
                          dq_panel to) {
    const operands x = {.a = {(const char *)ds},
                        .b = {key_form(t, keys.piece, K_TOKENS)},
                        .c = to.data,
                        .second = to.second,
                        .step = to.step,
                        .stride = to.stride};
    ADD_BY_COLUMNS(2 * depth, 1, x);
}

/* dV^T or dK^T of the keys: += of the queries' cols by the tokens of P or dS. */
ALWAYS_INLINE void add_for_keys(const int32_t depth, const char *cols, const uint16_t *tokens, char *to) {
    const operands x = {
        .a = {cols}, .b = {(const char *)tokens}, .c = to, .second = 4 * TILE, .step = TILE, .stride = 64};
    ADD_BY_ROWS(2 * depth, 1, x);
}

/* factor times [padded D / 16][4] tiles, transposed, to n rows of D. */
static void write_gradient(const char *tiles, int32_t n, int32_t dim, float factor, float *out) {
    for (int32_t d = 0; d < dim; d += 16)
        for (int32_t key = 0; key < n; key += 16, tiles += TILE) {
            tile_row r[16];
            for (int i = 0; i < 16; i++)
                r[i] = _mm512_load_si512(tiles + i * 64);
            transpose(r);
            for (int i = 0; i < 16 && key + i < n; i++)
                v_store_n(out + (int64_t)(key + i) * dim + d, dim - d, v_mul(v_set1(factor), (vf)r[i]));
            if (key + 16 >= n) tiles += (3 - key / 16) * TILE;
        }
}

/* ---- walks. depth: padded D / 32. units: after every two products, so that all UNITS are made within `scores`; 0:
   they are made apart. */

/* A panel of keys on its way over the queries that keep it. */
typedef struct member {
    const nabla_backward_task *task;
    panel keys;
    char *dk, *dv;
} member;

typedef struct walk {
    pair_walk pairs; /* partners are queries */
    member members[TOGETHER];
} walk;

static stream stream_of(const char *from, size_t bytes, ahead a) {
    return (stream){from + bytes / WHOLE_LINES * (size_t)a.from,
                    (int32_t)(bytes / 64 / (UNITS * STRIPS)) * a.lines / WHOLE_LINES};
}

static stream forms_of_queries(const nabla_backward_task *t, ahead a) {
    return stream_of(query_form(t, a.piece, Q_ROWS), QUERY_FORMS * panel_bytes(t->head_dim), a);
}

static stream dq_of(const nabla_backward_task *t, ahead a) {
    if (!t->dq) return (stream){0};
    return stream_of((const char *)(t->dq + (int64_t)a.first * t->head_dim), sum_bytes(t->head_dim), a);
}

static stream forms_of_keys(const nabla_backward_task *t, ahead a) {
    return stream_of(key_form(t, a.piece, K_DIMS), KEY_FORMS * panel_bytes(t->head_dim), a);
}

static panel partner(const pair *x) {
    return (panel){.first = x->first, .n = x->n, .piece = x->piece};
}

ALWAYS_INLINE void walk_queries(const int32_t depth, const int units, walk *w) {
    pair here, there = {0};
    if (!next_pair(&w->pairs, &here)) return;
    const nabla_backward_task *t = w->members[here.member].task;
    step now = step_of(t, partner(&here), w->members[here.member].keys, here.at, 0), next = {0};
    scores_alone(depth, t, &now, 0);
    dq_panel dq = {0};
    for (int32_t turn = 1;; turn = !turn) {
        const member *m = w->members + here.member;
        t = m->task;
        const bool more = next_pair(&w->pairs, &there);
        const member *then = w->members + there.member;
        streams fetch = {0};
        if (more) {
            const ahead a = next_ahead(&w->pairs);
            fetch = (streams){forms_of_queries(t, a), dq_of(t, a)};
            next = step_of(then->task, partner(&there), then->keys, there.at, turn);
        }
        gradients_of_pair(depth, true, units, t, &now, then->task, more ? &next : NULL, fetch);
        const scratch *x = t->scratch;
        add_for_keys(depth, query_form(t, here.piece, DO_COLS), x->p_tokens, m->dv);
        add_for_keys(depth, query_form(t, here.piece, Q_COLS), x->ds_tokens, m->dk);
        if (t->dq) {
            if (!dq.data) dq = take_dq(t, now.queries);
            add_dq(depth, t, now.ds, now.keys, dq);
            if (!more || there.piece != here.piece) {
                give_dq(t, now.queries, dq);
                dq.data = NULL;
            }
        }
        if (!more) return;
        now = next;
        here = there;
    }
}

static void walk_queries_64(walk *w) {
    walk_queries(2, 2, w);
}
static void walk_queries_128(walk *w) {
    walk_queries(4, 1, w);
}
static void walk_queries_any(walk *w) {
    walk_queries(padded_dim(w->members[0].task->head_dim) / 32, 0, w);
}

static pair_walk keys_in_turn(const nabla_backward_task *t) {
    pair_walk w = {.offsets = t->k_offsets, .pieces = t->k_pieces, .window_panels = 1};
    add_member(&w, t->blocks, t->block_count);
    return w;
}

/* dQ of a panel of queries over the keys that it keeps. */
ALWAYS_INLINE void walk_keys(const int32_t depth, const int units, const nabla_backward_task *t, panel queries) {
    pair_walk w = keys_in_turn(t);
    pair here;
    if (!next_pair(&w, &here)) return;
    const dq_panel dq = take_dq(t, queries);
    step now = step_of(t, queries, partner(&here), here.at, 0), next = {0};
    scores_alone(depth, t, &now, 0);
    for (int32_t turn = 1;; turn = !turn) {
        const bool more = next_pair(&w, &here);
        streams fetch = {0};
        if (more) {
            fetch.forms = forms_of_keys(t, next_ahead(&w));
            next = step_of(t, queries, partner(&here), here.at, turn);
        }
        gradients_of_pair(depth, false, units, t, &now, t, more ? &next : NULL, fetch);
        add_dq(depth, t, now.ds, now.keys, dq);
        if (!more) break;
        now = next;
    }
    give_dq(t, queries, dq);
}

/* What is left to do where dS is kept. */
static void walk_kept(const nabla_backward_task *t, panel queries) {
    pair_walk w = keys_in_turn(t);
    const dq_panel dq = take_dq(t, queries);
    for (pair x; next_pair(&w, &x);)
        add_dq(padded_dim(t->head_dim) / 32, t, ds_of(t, x.at), partner(&x), dq);
    give_dq(t, queries, dq);
}

/* ---- tasks */

static const tile_config config = FULL_TILES;

/* Gives the members their gradients. */
static void run_walk(walk *w) {
    const int32_t dim = w->members[0].task->head_dim;
    if (dim == 64)
        walk_queries_64(w);
    else if (dim == 128)
        walk_queries_128(w);
    else
        walk_queries_any(w);
    for (int32_t i = 0; i < w->pairs.members; i++) {
        const member *m = w->members + i;
        const int64_t row = (int64_t)(m->keys.first - m->task->k_offsets[m->task->block]) * dim;
        write_gradient(m->dk, m->keys.n, dim, m->task->scale, m->task->dk + row);
        write_gradient(m->dv, m->keys.n, dim, m->task->alpha, m->task->dv + row);
    }
}

NABLA_DECL_BACKWARD(amx_backward_kv) {
    const size_t bytes = sum_bytes(task->head_dim);
    scratch *x = task->scratch;
    const walk empty = {.pairs = {.offsets = task->q_offsets, .pieces = task->q_pieces, .window_panels = 1}};
    walk w = empty;
    panel keys;
    tile_configure(&config);
    for (const nabla_backward_task *t = task; t; t = t->next)
        for (int32_t i = 0; keys_of(t, i, &keys); i++) {
            if (w.pairs.members == TOGETHER) {
                run_walk(&w);
                w = empty;
            }
            char *const dk = x->tiles + (1 + 2 * (size_t)w.pairs.members) * bytes;
            memset(dk, 0, 2 * bytes);
            w.members[w.pairs.members] = (member){.task = t, .keys = keys, .dk = dk, .dv = dk + bytes};
            add_member(&w.pairs, t->blocks, t->block_count);
        }
    if (w.pairs.members) run_walk(&w);
    tile_release();
}

NABLA_DECL_BACKWARD(amx_backward_q) {
    const int32_t dim = task->head_dim;
    panel queries;
    tile_configure(&config);
    for (int32_t i = 0; queries_of(task, i, &queries); i++) {
        if (task->ds)
            walk_kept(task, queries);
        else if (dim == 64)
            walk_keys(2, 2, task, queries);
        else if (dim == 128)
            walk_keys(4, 1, task, queries);
        else
            walk_keys(padded_dim(dim) / 32, 0, task, queries);
    }
    tile_release();
}

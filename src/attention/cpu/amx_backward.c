/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward kernels in tiles, from P = exp2(S - LSE) computed again:
 *
 *     S = Q K^T, dP = dO V^T, dS = P (alpha dP - delta),
 *     dV^T += dO^T P, dK^T += Q^T dS (of one panel of keys), dQ += dS K.
 *
 * Rows are queries, in backward_kv and in backward_q: both make the same dS and add the same products to dQ in the same
 * order, so that both give the same bits. What every block pair reads is packed once a head, in the form its product
 * takes. S and dP of the next panel run while P and dS of this one are made between their products.
 */
#include "amx_products.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct scratch {
    float s[2][PANEL * PANEL], dp[2][PANEL * PANEL];            /* tiles [4][4], of this panel and the next */
    uint16_t p_tokens[PANEL * PANEL], ds_tokens[PANEL * PANEL]; /* tokens [4][2] */
    uint16_t ds_rows[PANEL * PANEL];                            /* rows [4][2] */
    float minus_lse[2][PANEL], minus_delta[2][PANEL];           /* of the queries; in log2 units */
    _Alignas(64) char tiles[]; /* dK^T and dV^T as [padded D / 16][4], then a panel of dQ as [4][padded D / 16] */
} scratch;

static size_t sum_bytes(int32_t dim) {
    return PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

size_t amx_backward_scratch(int32_t dim) {
    return sizeof(scratch) + 3 * sum_bytes(dim);
}

/* ---- packing: of queries Q and dO as rows and cols, of keys K as dims and tokens, V as dims */

enum { Q_ROWS, DO_ROWS, Q_COLS, DO_COLS, QUERY_FORMS };
enum { K_DIMS, V_DIMS, K_TOKENS, KEY_FORMS };

size_t amx_packed_queries(int64_t pieces, int32_t dim) {
    return (size_t)pieces * QUERY_FORMS * panel_bytes(dim);
}

size_t amx_packed_keys(int64_t pieces, int32_t dim) {
    return (size_t)pieces * KEY_FORMS * panel_bytes(dim);
}

static char *query_form(const nabla_backward_task *t, int32_t piece, int form) {
    return panel_at(t->packed_q, piece * QUERY_FORMS + form, t->head_dim);
}

static char *key_form(const nabla_backward_task *t, int32_t piece, int form) {
    return panel_at(t->packed_k, piece * KEY_FORMS + form, t->head_dim);
}

/* Walks the panels of a list of blocks. */
typedef struct panel_walk {
    const int32_t *offsets, *pieces, *blocks;
    int32_t count, block, within;
} panel_walk;

typedef struct panel {
    int32_t first, n, piece;
} panel;

static bool next_panel(panel_walk *w, panel *out) {
    if (w->block == w->count) return false;
    const int32_t block = w->blocks[w->block], first = w->offsets[block] + w->within * PANEL;
    const int32_t left = w->offsets[block + 1] - first;
    *out = (panel){.first = first, .n = left < PANEL ? left : PANEL, .piece = w->pieces[block] + w->within};
    if (left > PANEL)
        w->within++;
    else
        w->block++, w->within = 0;
    return true;
}

static panel_walk keys_of(const nabla_backward_task *t, const int32_t *blocks, int32_t count) {
    return (panel_walk){.offsets = t->k_offsets, .pieces = t->k_pieces, .blocks = blocks, .count = count};
}

static panel_walk queries_of(const nabla_backward_task *t, const int32_t *blocks, int32_t count) {
    return (panel_walk){.offsets = t->q_offsets, .pieces = t->q_pieces, .blocks = blocks, .count = count};
}

NABLA_DECL_BACKWARD(amx_pack_queries) {
    const int32_t dim = task->head_dim;
    panel_walk w = queries_of(task, &task->block, 1);
    for (panel p; next_panel(&w, &p);) {
        amx_pack_rows(task->q, NABLA_BF16, p.first, p.n, dim, query_form(task, p.piece, Q_ROWS));
        amx_pack_cols(task->q, NABLA_BF16, p.first, p.n, dim, query_form(task, p.piece, Q_COLS));
        amx_pack_rows(task->d_o, task->d_o_dtype, p.first, p.n, dim, query_form(task, p.piece, DO_ROWS));
        amx_pack_cols(task->d_o, task->d_o_dtype, p.first, p.n, dim, query_form(task, p.piece, DO_COLS));
    }
}

NABLA_DECL_BACKWARD(amx_pack_keys) {
    const int32_t dim = task->head_dim;
    panel_walk w = keys_of(task, &task->block, 1);
    for (panel p; next_panel(&w, &p);) {
        amx_pack_dims(task->k, NABLA_BF16, p.first, p.n, dim, key_form(task, p.piece, K_DIMS));
        amx_pack_dims(task->v, NABLA_BF16, p.first, p.n, dim, key_form(task, p.piece, V_DIMS));
        amx_pack_tokens(task->k, NABLA_BF16, p.first, p.n, dim, key_form(task, p.piece, K_TOKENS));
    }
}

/* ---- a panel of queries by a panel of keys */

typedef struct pair {
    panel queries, keys;
    float *s, *dp, *minus_lse, *minus_delta;
    uint16_t *ds; /* rows [4][2] */
} pair;

/* Where the dS of a task's i-th partner goes. */
static uint16_t *ds_of(const nabla_backward_task *t, int32_t i) {
    scratch *x = t->scratch;
    return t->ds ? (uint16_t *)t->ds + (size_t)t->ds_at[i] * PANEL * PANEL : x->ds_rows;
}

/* partner: its number in the task's list, by which its dS is kept. */
static pair pair_of(const nabla_backward_task *t, panel queries, panel keys, int32_t partner) {
    scratch *x = t->scratch;
    const int32_t turn = partner % 2;
    pair out = {.queries = queries,
                .keys = keys,
                .s = x->s[turn],
                .dp = x->dp[turn],
                .minus_lse = x->minus_lse[turn],
                .minus_delta = x->minus_delta[turn],
                .ds = ds_of(t, partner)};
    for (int32_t i = 0; i < PANEL; i++) {
        const bool inside = i < queries.n;
        const float lse = inside ? t->lse[queries.first + i] : -INFINITY;
        out.minus_lse[i] = lse == -INFINITY ? -INFINITY : -lse * LOG2_E; /* no probability where no key had one */
        out.minus_delta[i] = inside ? -t->delta[queries.first + i] : 0.0f;
    }
    return out;
}

/* P and dS on their way from a pair's S and dP, unit by unit: of 2 queries by 32 keys. */
typedef struct gradients {
    const pair *of;
    scratch *to;
    vf scale_log2, alpha;
    uint64_t keys; /* a bit a key */
    uint32_t unit;
    const char *ahead[2]; /* what to fetch meanwhile, two forms of a panel each; NULL for none */
} gradients;

enum { UNITS = 64 };

static inline gradients gradients_of(const nabla_backward_task *t, const pair *x) {
    return (gradients){.of = x,
                       .to = t->scratch,
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
    const uint32_t pair_row = g->unit / 2, half = g->unit % 2, row = pair_row % 8 * 2;
    const int64_t at = (pair_row / 8 * 4 + 2 * half) * TILE_FLOATS + row * VL;
    const float *lse = g->of->minus_lse + 2 * pair_row, *delta = g->of->minus_delta + 2 * pair_row;
    const vf never = v_set1(-INFINITY);
    vf p[2][2], ds[2][2]; /* [row][tile of keys] */
    UNROLLED
    for (int i = 0; i < 2; i++) {
        UNROLLED
        for (int j = 0; j < 2; j++) {
            const int64_t here = at + j * TILE_FLOATS + i * VL;
            const vf x = v_fma(v_load(g->of->s + here), g->scale_log2, v_set1(lse[i]));
            p[i][j] = v_exp2(v_pick((uint32_t)(g->keys >> (32 * half + 16 * (uint32_t)j)), x, never));
            ds[i][j] = v_mul(p[i][j], v_fma(v_load(g->of->dp + here), g->alpha, v_set1(delta[i])));
        }
        uint16_t *rows = g->of->ds + (pair_row / 8 * 2 + half) * (TILE / 2) + (row + (uint32_t)i) * 32;
        _mm512_store_si512(rows, (__m512i)_mm512_cvtne2ps_pbh(ds[i][1], ds[i][0]));
    }
    if (terms) {
        const int64_t to = (4 * half + pair_row / 16) * (TILE / 2) + pair_row % 16 * 32;
        UNROLLED
        for (int j = 0; j < 2; j++) {
            store_pairs(g->to->p_tokens + to + j * TILE, p[0][j], p[1][j]);
            store_pairs(g->to->ds_tokens + to + j * TILE, ds[0][j], ds[1][j]);
        }
    }
    g->unit++;
}

ALWAYS_INLINE void some_units(const int32_t depth, const bool terms, const int units, gradients *g) {
    UNROLLED
    for (int i = 0; i < units; i++) {
        gradient_unit(terms, g);
        UNROLLED
        for (int n = 0; n < 2; n++) {
            if (!g->ahead[n]) continue;
            UNROLLED
            for (int32_t line = 0; line < 2 * depth; line++)
                _mm_prefetch(g->ahead[n] + line * 64, _MM_HINT_T1);
            g->ahead[n] += depth * 128;
        }
    }
}

static void all_units(bool terms, gradients *g) {
    while (g->unit < UNITS)
        gradient_unit(terms, g);
}

/* S and dP of a pair, with `units` of another one's gradients after every two products. */
ALWAYS_INLINE void scores(const int32_t depth, const bool terms, const int units, const nabla_backward_task *t,
                          const pair *x, gradients *g) {
    const char *const left[2] = {query_form(t, x->queries.piece, Q_ROWS), query_form(t, x->queries.piece, DO_ROWS)};
    const char *const right[2] = {key_form(t, x->keys.piece, K_DIMS), key_form(t, x->keys.piece, V_DIMS)};
    float *const to[2] = {x->s, x->dp};
    for (int which = 0; which < 2; which++)
        for (int strip = 0; strip < 2; strip++)
            SUM_OVER_DIMS(depth, left[which] + strip * 2 * depth * TILE, right[which],
                          to[which] + strip * 8 * TILE_FLOATS, some_units(depth, terms, units, g));
}

static __attribute__((noinline)) void scores_alone(int32_t depth, const nabla_backward_task *t, const pair *x) {
    scores(depth, false, 0, t, x, NULL);
}

/* What dQ of a panel is added to: 64 whole rows as they lie, or else tiles. */
typedef struct dq_panel {
    char *data;
    int64_t second, step, stride; /* see ADD_OVER_TOKENS */
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
    char *tiles = x->tiles + 2 * sum_bytes(dim);
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

static void add_dq(int32_t depth, const nabla_backward_task *t, const uint16_t *ds, panel keys, dq_panel to) {
    const char *k = key_form(t, keys.piece, K_TOKENS);
    for (int strip = 0; strip < 2; strip++)
        ADD_OVER_TOKENS(depth, ds + strip * 2 * TILE, k, to.data + strip * 2 * to.second, to.second, to.step, to.stride,
                        (void)0);
}

/* dV^T and dK^T of the keys. */
static void add_dk_dv(int32_t depth, const nabla_backward_task *t, panel queries) {
    scratch *x = t->scratch;
    const char *q = query_form(t, queries.piece, Q_COLS), *d_o = query_form(t, queries.piece, DO_COLS);
    char *dk = x->tiles, *dv = x->tiles + sum_bytes(t->head_dim);
    for (int32_t i = 0; i < depth; i++) {
        ADD_OVER_TOKENS(2, d_o + i * 4 * TILE, x->p_tokens, dv + i * 8 * TILE, 4 * TILE, TILE, 64, (void)0);
        ADD_OVER_TOKENS(2, q + i * 4 * TILE, x->ds_tokens, dk + i * 8 * TILE, 4 * TILE, TILE, 64, (void)0);
    }
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

/* ---- tasks. depth: padded D / 32. units: after every two products, so that all UNITS are made within `scores`; 0:
   they are made apart. */

/* While a panel's gradients are made and the next one's products run, what comes then is fetched: the next panel's
   other forms, and those of the panel after it that its first products read. */
ALWAYS_INLINE void walk_queries(const int32_t depth, const int units, const nabla_backward_task *t, panel keys) {
    panel_walk w = queries_of(t, t->blocks, t->block_count);
    panel queries, later = {0};
    bool more = next_panel(&w, &queries);
    pair now = {0}, next = {0};
    if (more) {
        now = pair_of(t, queries, keys, 0);
        scores_alone(depth, t, &now);
    }
    bool more_later = more && next_panel(&w, &later);
    for (int32_t i = 1; more; i++) {
        gradients g = gradients_of(t, &now);
        more = more_later;
        if (more) {
            queries = later;
            more_later = next_panel(&w, &later);
            g.ahead[0] = query_form(t, queries.piece, Q_COLS);
            g.ahead[1] = more_later ? query_form(t, later.piece, Q_ROWS) : NULL;
            next = pair_of(t, queries, keys, i);
            if (units)
                scores(depth, true, units, t, &next, &g);
            else
                scores_alone(depth, t, &next);
        }
        all_units(true, &g);
        add_dk_dv(depth, t, now.queries);
        if (t->dq) {
            const dq_panel dq = take_dq(t, now.queries);
            add_dq(depth, t, now.ds, keys, dq);
            give_dq(t, now.queries, dq);
        }
        now = next;
    }
}

/* The same of keys; K as tokens is the smaller part and not fetched ahead. */
ALWAYS_INLINE void walk_keys(const int32_t depth, const int units, const nabla_backward_task *t, panel queries) {
    panel_walk w = keys_of(t, t->blocks, t->block_count);
    panel keys, later = {0};
    bool more = next_panel(&w, &keys);
    const dq_panel dq = take_dq(t, queries);
    pair now = {0}, next = {0};
    if (more) {
        now = pair_of(t, queries, keys, 0);
        scores_alone(depth, t, &now);
    }
    bool more_later = more && next_panel(&w, &later);
    for (int32_t i = 1; more; i++) {
        gradients g = gradients_of(t, &now);
        more = more_later;
        if (more) {
            keys = later;
            more_later = next_panel(&w, &later);
            g.ahead[0] = more_later ? key_form(t, later.piece, K_DIMS) : NULL;
            next = pair_of(t, queries, keys, i);
            if (units)
                scores(depth, false, units, t, &next, &g);
            else
                scores_alone(depth, t, &next);
        }
        all_units(false, &g);
        add_dq(depth, t, now.ds, now.keys, dq);
        now = next;
    }
    give_dq(t, queries, dq);
}

/* What is left to do where dS is kept. */
static void walk_kept(const nabla_backward_task *t, panel queries) {
    panel_walk w = keys_of(t, t->blocks, t->block_count);
    const dq_panel dq = take_dq(t, queries);
    panel keys;
    for (int32_t i = 0; next_panel(&w, &keys); i++)
        add_dq(padded_dim(t->head_dim) / 32, t, ds_of(t, i), keys, dq);
    give_dq(t, queries, dq);
}

static const tile_config config = FULL_TILES;

NABLA_DECL_BACKWARD(amx_backward_kv) {
    const int32_t dim = task->head_dim;
    scratch *x = task->scratch;
    panel_walk w = keys_of(task, &task->block, 1);
    tile_configure(&config);
    for (panel keys; next_panel(&w, &keys);) {
        memset(x->tiles, 0, 2 * sum_bytes(dim));
        if (dim == 64)
            walk_queries(2, 2, task, keys);
        else if (dim == 128)
            walk_queries(4, 1, task, keys);
        else
            walk_queries(padded_dim(dim) / 32, 0, task, keys);
        write_gradient(x->tiles, keys.n, dim, task->scale, task->dk + (int64_t)keys.first * dim);
        write_gradient(x->tiles + sum_bytes(dim), keys.n, dim, task->alpha, task->dv + (int64_t)keys.first * dim);
    }
    tile_release();
}

NABLA_DECL_BACKWARD(amx_backward_q) {
    const int32_t dim = task->head_dim;
    panel_walk w = queries_of(task, &task->block, 1);
    tile_configure(&config);
    for (panel queries; next_panel(&w, &queries);) {
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

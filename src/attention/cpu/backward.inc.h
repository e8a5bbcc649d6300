/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward pass, from P = exp(scale S - LSE) computed again:
 *
 *     dS = P (alpha dO V^T - delta),  dV = alpha P^T dO,  dK = scale dS^T Q,  dQ / scale = dS K.
 *
 * Lanes are the task's own tokens: keys in backward_kv (S = Q K^T, dK^T += Q^T dS), queries in backward_q (S^T = K Q^T,
 * dQ^T += K^T dS^T). Every element of S, dP and dS comes from the same operations in the same order in both, and a
 * query's dQ adds up one sum a panel of keys in ascending order, so that both give the same bits of dQ.
 */
#ifndef NABLA_BACKWARD_INC_H
#define NABLA_BACKWARD_INC_H

#include <math.h>

#include "words.inc.h"

typedef struct backward_scratch {
    float s[PANEL * PANEL], dp[PANEL * PANEL];             /* lanes: S then P, dP then dS */
    float p_terms[PANEL * PANEL], ds_terms[PANEL * PANEL]; /* lanes: P and dS as pairs along the partners' tokens */
    float ds_rows[PANEL * TERMS_LD];                       /* rows: dS as words along keys */
    float minus_lse[PANEL], delta[PANEL];                  /* of the panel's queries; -LSE in log2 units */
    float panels[];                                        /* BACKWARD_PANELS times panel_floats */
} backward_scratch;

enum { BACKWARD_PANELS = 10, DS_SIZE = PANEL * TERMS_LD * sizeof(float) };

static size_t backward_scratch_size(int32_t dim) {
    return sizeof(backward_scratch) + BACKWARD_PANELS * sizeof(float) * panel_floats(dim);
}

static void load_statistics(const nabla_backward_task *t, int32_t first, int32_t n, backward_scratch *x) {
    for (int32_t i = 0; i < PANEL; i++) {
        const float lse = i < n ? t->lse[first + i] : 0.0f;
        x->minus_lse[i] = lse == -INFINITY ? -INFINITY : -lse * LOG2_E; /* no probability where no key had one */
        x->delta[i] = i < n ? t->delta[first + i] : 0.0f;
    }
}

/* n rows by one vector of lanes: dp from dP to dS, and both as terms of the products to come; P only where queries are
   rows, with minus_lse and delta the panel's (else the vector's). Of floats, p_terms may be s, ds_terms is dp. */
ALWAYS_INLINE void gradients(const int queries_are_rows, const nabla_backward_task *t, int32_t n,
                             const float *minus_lse, const float *delta, const float *s, float *dp, float *p_terms,
                             float *ds_terms) {
    const vf scale_log2 = v_set1(t->scale * LOG2_E), alpha = v_set1(t->alpha);
    vf p[2], ds[2];
    for (int32_t r = 0; r < n; r += 2) {
        p[1] = ds[1] = v_zero();
        for (int32_t i = 0; i < 2 && r + i < n; i++) {
            float *d_at = dp + (r + i) * TILE_N;
            const vf lse = queries_are_rows ? v_set1(minus_lse[r + i]) : v_load(minus_lse);
            const vf mean = queries_are_rows ? v_set1(delta[r + i]) : v_load(delta);
            p[i] = v_exp2(v_fma(v_load(s + (r + i) * TILE_N), scale_log2, lse));
            ds[i] = v_mul(p[i], v_sub(v_mul(alpha, v_load(d_at)), mean));
            v_store(d_at, ds[i]);
        }
        if (queries_are_rows) store_terms(p_terms, r, n, p[0], p[1]);
        if (PAIRED) store_terms(ds_terms, r, n, ds[0], ds[1]);
    }
}

/* The task's own rows, packed once: lanes of x's rows [first, first + n). */
static lanes own_lanes(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, float *panel,
                       float *dst) {
    const lanes out = {dst, words(dim) * TILE_N};
    fill_rows(x, type, first, n, dim, panel);
    lanes_of_rows(panel, row_ld(dim), n, words(dim), out);
    return out;
}

/* rows += n rows of D as lanes along D, PANEL rows a strip; rows of stride D */
static void add_strips(lanes src, int32_t n, int32_t dim, float *rows) {
    for (int32_t d = 0; d < dim; d += VL)
        for (int32_t r = 0; r < n; r++) {
            float *at = rows + (int64_t)r * dim + d;
            v_store_n(at, dim - d, v_add(v_load(lane_at(src, d) + r * TILE_N), v_load_n(at, dim - d)));
        }
}

/* lanes of D rows -> n rows */
static void write_gradient(lanes src, int32_t n, int32_t dim, float *panel, float *out, int64_t stride) {
    const int64_t ld = col_ld(dim);
    rows_of_lanes(src, n, dim, panel, ld);
    for (int32_t r = 0; r < n; r++)
        memcpy(out + r * stride, panel + r * ld, (size_t)dim * sizeof *out);
}

static void load_gradient(const float *in, int32_t n, int32_t dim, float *panel, lanes dst) {
    const int64_t ld = col_ld(dim);
    for (int32_t r = 0; r < n; r++)
        memcpy(panel + r * ld, in + (int64_t)r * dim, (size_t)dim * sizeof *in);
    lanes_of_rows(panel, ld, n, dim, dst);
}

/* What backward_kv holds of up to PANEL keys while it walks their queries. */
typedef struct own_keys {
    int32_t n;
    lanes k, v;   /* words(D) rows */
    lanes k_cols; /* lanes along D: the B of dQ = dS K */
    lanes dk, dv; /* D rows */
    lanes dq;     /* lanes along D, of the query panel at hand */
    float *q_rows, *do_rows, *q_cols, *do_cols;
} own_keys;

static own_keys take_keys(const nabla_backward_task *t, nabla_dtype type, int32_t first, int32_t n) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim;
    const size_t room = panel_floats(dim);
    float *at = x->panels;
    own_keys own = {.n = n, .q_rows = at, .do_rows = at + room, .q_cols = at + 2 * room, .do_cols = at + 3 * room};
    own.v = own_lanes(t->v, type, first, n, dim, at, at + 4 * room);
    own.k = own_lanes(t->k, type, first, n, dim, at, at + 5 * room);
    own.k_cols = (lanes){at + 6 * room, PANEL * TILE_N};
    fill_strips(t->k, type, first, n, dim, own.k_cols);
    own.dq = (lanes){at + 7 * room, PANEL * TILE_N};
    own.dk = (lanes){at + 8 * room, dim * TILE_N};
    own.dv = (lanes){at + 9 * room, dim * TILE_N};
    memset(own.dk.data, 0, 2 * room * sizeof(float));
    return own;
}

/* The dS of a task's i-th partner. */
static float *kept_ds(const nabla_backward_task *t, int32_t i) {
    return (float *)((char *)t->ds + (size_t)t->ds_at[i] * DS_SIZE);
}

/* dQ += dS K of n queries from `first` on; k_cols: lanes along D, as is dq, which is room. */
static void add_dq(const nabla_backward_task *t, const float *ds, int32_t first, int32_t n, int32_t keys, lanes k_cols,
                   lanes dq) {
    product(ROWS, n, t->head_dim, depth(keys), ds, TERMS_LD, k_cols, dq, NULL);
    add_strips(dq, n, t->head_dim, t->dq + (int64_t)first * t->head_dim);
}

/* next: what comes after; ds: where dS is kept; NULL: nowhere. */
static void kv_panel(const nabla_backward_task *t, nabla_dtype type, const own_keys *own, int32_t first, int32_t n,
                     const panel_walk *next, float *ds) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim;
    const lanes s = {x->s, PANEL * TILE_N}, dp = {x->dp, PANEL * TILE_N};
    const lanes p_terms = {PAIRED ? x->p_terms : x->s, PANEL * TILE_N};
    const lanes ds_terms = {PAIRED ? x->ds_terms : x->dp, PANEL * TILE_N};
    load_statistics(t, first, n, x);
    fill_rows(t->q, type, first, n, dim, own->q_rows);
    fill_rows(t->d_o, t->d_o_dtype, first, n, dim, own->do_rows);
    product_fetching(ROWS, n, own->n, words(dim), own->q_rows, row_ld(dim), own->k, s, NULL,
                     rows_of((nabla_rows){t->dq, dim}, NABLA_FP32, first, n, dim));
    product(ROWS, n, own->n, words(dim), own->do_rows, row_ld(dim), own->v, dp, NULL);
    for (int32_t i = 0; i < own->n; i += VL)
        gradients(1, t, n, x->minus_lse, x->delta, lane_at(s, i), lane_at(dp, i), lane_at(p_terms, i),
                  lane_at(ds_terms, i));
    const float *do_cols = cols_of_rows(own->do_rows, n, dim, own->do_cols);
    const float *q_cols = cols_of_rows(own->q_rows, n, dim, own->q_cols);
    product_fetching(COLS, dim, own->n, depth(n), do_cols, col_ld(dim), p_terms, own->dv, &t->alpha,
                     next_rows(*next, t->q, type, dim));
    product_fetching(COLS, dim, own->n, depth(n), q_cols, col_ld(dim), ds_terms, own->dk, &t->scale,
                     next_rows(*next, t->d_o, t->d_o_dtype, dim));
    if (ds || t->dq) rows_of_terms(dp, n, own->n, ds ? ds : x->ds_rows);
    if (t->dq) add_dq(t, x->ds_rows, first, n, own->n, own->k_cols, own->dq);
}

static void backward_kv(const nabla_backward_task *t, nabla_dtype type) {
    panel_walk keys = {.offsets = t->k_offsets, .blocks = &t->block, .count = 1};
    for (int32_t first, count; (count = next_panel(&keys, &first)) > 0;) {
        const own_keys own = take_keys(t, type, first, count);
        panel_walk queries = {.offsets = t->q_offsets, .blocks = t->blocks, .count = t->block_count};
        for (int32_t q, n, i = 0; (n = next_panel(&queries, &q)) > 0; i++)
            kv_panel(t, type, &own, q, n, &queries, t->ds ? kept_ds(t, i) : NULL);
        const int64_t row = first - t->k_offsets[t->block];
        write_gradient(own.dk, own.n, t->head_dim, own.q_rows, t->dk + row * t->dk_stride, t->dk_stride);
        write_gradient(own.dv, own.n, t->head_dim, own.q_rows, t->dv + row * t->dv_stride, t->dv_stride);
    }
}

/* And what backward_q holds of its queries while it walks their keys. */
typedef struct own_queries {
    int32_t n;
    lanes q, d_o, dq;
    float *k_rows, *v_rows, *k_cols;
} own_queries;

static own_queries take_queries(const nabla_backward_task *t, nabla_dtype type, int32_t first, int32_t n) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim;
    const size_t room = panel_floats(dim);
    float *at = x->panels;
    own_queries own = {.n = n, .k_rows = at, .v_rows = at + room, .k_cols = at + 2 * room};
    own.q = own_lanes(t->q, type, first, n, dim, at, at + 3 * room);
    own.d_o = own_lanes(t->d_o, t->d_o_dtype, first, n, dim, at, at + 4 * room);
    own.dq = (lanes){at + 5 * room, dim * TILE_N};
    load_gradient(t->dq + (int64_t)first * dim, n, dim, at, own.dq);
    load_statistics(t, first, n, x);
    return own;
}

static void q_panel(const nabla_backward_task *t, nabla_dtype type, const own_queries *own, int32_t first, int32_t n,
                    const panel_walk *next) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim;
    const float one = 1.0f;
    const lanes s = {x->s, PANEL * TILE_N}, dp = {x->dp, PANEL * TILE_N};
    const lanes ds_terms = {PAIRED ? x->ds_terms : x->dp, PANEL * TILE_N};
    fill_rows(t->k, type, first, n, dim, own->k_rows);
    fill_rows(t->v, type, first, n, dim, own->v_rows);
    product(ROWS, n, own->n, words(dim), own->k_rows, row_ld(dim), own->q, s, NULL);
    product_fetching(ROWS, n, own->n, words(dim), own->v_rows, row_ld(dim), own->d_o, dp, NULL,
                     next_rows(*next, t->k, type, dim));
    for (int32_t i = 0; i < own->n; i += VL)
        gradients(0, t, n, x->minus_lse + i, x->delta + i, lane_at(s, i), lane_at(dp, i), NULL, lane_at(ds_terms, i));
    const float *k_cols = cols_of_rows(own->k_rows, n, dim, own->k_cols);
    product_fetching(COLS, dim, own->n, depth(n), k_cols, col_ld(dim), ds_terms, own->dq, &one,
                     next_rows(*next, t->v, type, dim));
}

/* What is left to do where dS is kept. */
static void q_of_kept_ds(const nabla_backward_task *t, nabla_dtype type) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim, first = t->q_offsets[t->block], n = t->q_offsets[t->block + 1] - first;
    const lanes k_cols = {x->panels, PANEL * TILE_N}, dq = {x->panels + panel_floats(dim), PANEL * TILE_N};
    for (int32_t i = 0; i < t->block_count; i++) {
        const int32_t key = t->k_offsets[t->blocks[i]], keys = t->k_offsets[t->blocks[i] + 1] - key;
        if (i + 1 < t->block_count)
            for (int32_t line = 0; line < DS_SIZE; line += 64)
                _mm_prefetch((const char *)kept_ds(t, i + 1) + line, _MM_HINT_T1);
        fill_strips(t->k, type, key, keys, dim, k_cols);
        add_dq(t, kept_ds(t, i), first, n, keys, k_cols, dq);
    }
}

static void backward_q(const nabla_backward_task *t, nabla_dtype type) {
    if (t->ds) {
        q_of_kept_ds(t, type);
        return;
    }
    panel_walk queries = {.offsets = t->q_offsets, .blocks = &t->block, .count = 1};
    for (int32_t first, count; (count = next_panel(&queries, &first)) > 0;) {
        const own_queries own = take_queries(t, type, first, count);
        panel_walk keys = {.offsets = t->k_offsets, .blocks = t->blocks, .count = t->block_count};
        for (int32_t k, n; (n = next_panel(&keys, &k)) > 0;)
            q_panel(t, type, &own, k, n, &keys);
        write_gradient(own.dq, own.n, t->head_dim, own.k_rows, t->dq + (int64_t)first * t->head_dim, t->head_dim);
    }
}

#endif

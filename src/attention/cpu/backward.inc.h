/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward pass, from P = exp(scale S - LSE) computed again:
 *     dS = scale P (alpha dO V^T - delta),  dV = alpha P^T dO,  dK = dS^T Q,  dQ = dS K.
 * Lanes are the task's own tokens: keys in backward_kv (S = Q K^T, dK^T += Q^T dS ...), queries in backward_q (S^T = K
 * Q^T, dQ^T += K^T dS^T). Every element of S, dP and dS is computed by the same operations in the same order in both,
 * and a query's dQ is one chain over ascending keys, so that both give the same bits of dQ.
 */
#ifndef NABLA_BACKWARD_INC_H
#define NABLA_BACKWARD_INC_H

#include <math.h>

#include "words.inc.h"

typedef struct backward_scratch {
    float s[PANEL * PANEL], dp[PANEL * PANEL];          /* lanes: S then P, dP then dS */
    float p_terms[PANEL * PANEL], terms[PANEL * PANEL]; /* lanes: P and dS as pairs along the partners' tokens */
    float ds_rows[PANEL * PANEL];                       /* rows: dS as words along keys */
    float minus_lse[PANEL], delta[PANEL];               /* of the panel's queries; -LSE in log2 units */
    float panels[];                                     /* BACKWARD_PANELS times panel_floats */
} backward_scratch;

enum { BACKWARD_PANELS = 10 };

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
    const vf scale_log2 = v_set1(t->scale * LOG2_E), scale = v_set1(t->scale), alpha = v_set1(t->alpha);
    vf p[2], ds[2];
    for (int32_t r = 0; r < n; r += 2) {
        p[1] = ds[1] = v_zero();
        for (int32_t i = 0; i < 2 && r + i < n; i++) {
            float *d_at = dp + (r + i) * TILE_N;
            const vf lse = queries_are_rows ? v_set1(minus_lse[r + i]) : v_load(minus_lse);
            const vf mean = queries_are_rows ? v_set1(delta[r + i]) : v_load(delta);
            p[i] = v_exp2(v_fma(v_load(s + (r + i) * TILE_N), scale_log2, lse));
            ds[i] = v_mul(v_mul(p[i], scale), v_sub(v_mul(alpha, v_load(d_at)), mean));
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

/* n rows of D floats and of stride D <-> lanes along D, [PANEL rows] a strip. */
static void rows_to_strips(const float *rows, int64_t ld, int32_t n, int32_t dim, lanes dst) {
    for (int32_t d = 0; d < dim; d += VL)
        for (int32_t r = 0; r < n; r++)
            v_store(lane_at(dst, d) + r * TILE_N, v_load_n(rows + r * ld + d, dim - d));
}
static void strips_to_rows(lanes src, int32_t n, int32_t dim, float *rows, int64_t ld) {
    for (int32_t d = 0; d < dim; d += VL)
        for (int32_t r = 0; r < n; r++)
            v_store_n(rows + r * ld + d, dim - d, v_load(lane_at(src, d) + r * TILE_N));
}

/* lanes of D rows -> n rows of out, times factor. */
static void write_gradient(lanes src, int32_t n, int32_t dim, float factor, float *panel, float *out) {
    const int64_t ld = col_ld(dim);
    rows_of_lanes(src, n, dim, panel, ld);
    for (int32_t r = 0; r < n; r++)
        for (int32_t d = 0; d < dim; d += VL)
            v_store_n(out + (int64_t)r * dim + d, dim - d, v_mul(v_load(panel + r * ld + d), v_set1(factor)));
}

static void load_gradient(const float *in, int32_t n, int32_t dim, float *panel, lanes dst) {
    const int64_t ld = col_ld(dim);
    for (int32_t r = 0; r < n; r++)
        for (int32_t d = 0; d < dim; d += VL)
            v_store(panel + r * ld + d, v_load_n(in + (int64_t)r * dim + d, dim - d));
    lanes_of_rows(panel, ld, n, dim, dst);
}

/* What backward_kv holds of its keys [first, first + n) while it walks their queries. */
typedef struct own_keys {
    int32_t first, n;
    lanes k, v;   /* words(D) rows */
    lanes k_cols; /* lanes along D: the B of dQ = dS K */
    lanes dk, dv; /* D rows */
    lanes dq;     /* lanes along D, of the query panel at hand */
    float *q_rows, *do_rows, *q_cols, *do_cols;
} own_keys;

static void kv_panel(const nabla_backward_task *t, nabla_dtype type, const own_keys *own, int32_t first, int32_t n,
                     int32_t accumulate) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim;
    const lanes s = {x->s, PANEL * TILE_N}, dp = {x->dp, PANEL * TILE_N};
    const lanes p_terms = {PAIRED ? x->p_terms : x->s, PANEL * TILE_N};
    const lanes ds_terms = {PAIRED ? x->terms : x->dp, PANEL * TILE_N};
    load_statistics(t, first, n, x);
    fill_rows(t->q, type, first, n, dim, own->q_rows);
    fill_rows(t->d_o, t->d_o_dtype, first, n, dim, own->do_rows);
    product(ROWS, n, own->n, words(dim), own->q_rows, row_ld(dim), own->k, s, 0);
    product(ROWS, n, own->n, words(dim), own->do_rows, row_ld(dim), own->v, dp, 0);
    for (int32_t i = 0; i < own->n; i += VL)
        gradients(1, t, n, x->minus_lse, x->delta, lane_at(s, i), lane_at(dp, i), lane_at(p_terms, i),
                  lane_at(ds_terms, i));
    const float *do_cols = cols_of_rows(own->do_rows, n, dim, own->do_cols);
    product(COLS, dim, own->n, depth(n), do_cols, col_ld(dim), p_terms, own->dv, accumulate);
    const float *q_cols = cols_of_rows(own->q_rows, n, dim, own->q_cols);
    product(COLS, dim, own->n, depth(n), q_cols, col_ld(dim), ds_terms, own->dk, accumulate);
    if (t->dq) {
        float *dq = t->dq + (int64_t)first * dim;
        rows_of_terms(dp, n, own->n, x->ds_rows);
        rows_to_strips(dq, dim, n, dim, own->dq);
        product(ROWS, n, dim, depth(own->n), x->ds_rows, PANEL, own->k_cols, own->dq, 1);
        strips_to_rows(own->dq, n, dim, dq, dim);
    }
}

static void backward_kv(const nabla_backward_task *t, nabla_dtype type) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim, last = t->k_offsets[t->block + 1];
    float *at[BACKWARD_PANELS];
    for (int32_t i = 0; i < BACKWARD_PANELS; i++)
        at[i] = x->panels + (size_t)i * panel_floats(dim);
    for (int32_t first = t->k_offsets[t->block]; first < last; first += PANEL) {
        own_keys own = {.first = first, .n = last - first < PANEL ? last - first : PANEL};
        own.q_rows = at[0], own.do_rows = at[1], own.q_cols = at[2], own.do_cols = at[3];
        own.v = own_lanes(t->v, type, first, own.n, dim, at[0], at[4]);
        own.k = own_lanes(t->k, type, first, own.n, dim, at[0], at[5]);
        own.k_cols = (lanes){at[6], PANEL * TILE_N};
        rows_to_strips(cols_of_rows(at[0], own.n, dim, at[1]), col_ld(dim), depth(own.n), (int32_t)col_ld(dim),
                       own.k_cols);
        own.dk = (lanes){at[7], dim * TILE_N};
        own.dv = (lanes){at[8], dim * TILE_N};
        own.dq = (lanes){at[9], PANEL * TILE_N};
        panel_walk walk = {t->q_offsets, t->blocks, t->block_count, 0, 0, 0};
        int32_t begun = 0;
        for (int32_t q, n; (n = next_panel(&walk, &q)) > 0; begun = 1)
            kv_panel(t, type, &own, q, n, begun);
        float *dk = t->dk + (int64_t)first * dim, *dv = t->dv + (int64_t)first * dim;
        if (begun) {
            write_gradient(own.dk, own.n, dim, 1.0f, at[0], dk);
            write_gradient(own.dv, own.n, dim, t->alpha, at[0], dv);
        } else {
            memset(dk, 0, (size_t)own.n * (size_t)dim * sizeof *dk);
            memset(dv, 0, (size_t)own.n * (size_t)dim * sizeof *dv);
        }
    }
}

static void backward_q(const nabla_backward_task *t, nabla_dtype type) {
    backward_scratch *x = t->scratch;
    const int32_t dim = t->head_dim, last = t->q_offsets[t->block + 1];
    const lanes s = {x->s, PANEL * TILE_N}, dp = {x->dp, PANEL * TILE_N};
    const lanes ds_terms = {PAIRED ? x->terms : x->dp, PANEL * TILE_N};
    float *at[7];
    for (int32_t i = 0; i < 7; i++)
        at[i] = x->panels + (size_t)i * panel_floats(dim);
    for (int32_t first = t->q_offsets[t->block]; first < last; first += PANEL) {
        const int32_t own = last - first < PANEL ? last - first : PANEL;
        float *k_rows = at[0], *v_rows = at[1], *dq_rows = t->dq + (int64_t)first * dim;
        const lanes q = own_lanes(t->q, type, first, own, dim, at[0], at[3]);
        const lanes d_o = own_lanes(t->d_o, t->d_o_dtype, first, own, dim, at[0], at[4]);
        const lanes dq = {at[5], dim * TILE_N};
        load_statistics(t, first, own, x);
        load_gradient(dq_rows, own, dim, at[0], dq);
        panel_walk walk = {t->k_offsets, t->blocks, t->block_count, 0, 0, 0};
        for (int32_t k, n; (n = next_panel(&walk, &k)) > 0;) {
            fill_rows(t->k, type, k, n, dim, k_rows);
            fill_rows(t->v, type, k, n, dim, v_rows);
            product(ROWS, n, own, words(dim), k_rows, row_ld(dim), q, s, 0);
            product(ROWS, n, own, words(dim), v_rows, row_ld(dim), d_o, dp, 0);
            for (int32_t i = 0; i < own; i += VL)
                gradients(0, t, n, x->minus_lse + i, x->delta + i, lane_at(s, i), lane_at(dp, i), NULL,
                          lane_at(ds_terms, i));
            const float *k_cols = cols_of_rows(k_rows, n, dim, at[2]);
            product(COLS, dim, own, depth(n), k_cols, col_ld(dim), ds_terms, dq, 1);
        }
        write_gradient(dq, own, dim, 1.0f, at[0], dq_rows);
    }
}

#endif

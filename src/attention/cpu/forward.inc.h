/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention of up to 64 queries over a list of key blocks: S^T = K Q^T, P^T = exp2(S^T), O^T += V^T P^T. Lanes are
 * queries from the first product to the last, so that softmax's maxima and sums are vertical.
 *
 * The softmax is online (arXiv 1805.02867) and rescales lazily (as FlashAttention-4 does): a row's reference m moves
 * only when its maximum passes m by more than 8 in log2 units, so that P stays within 2^8 and O is rarely touched
 * again; dividing by the sum at the end makes the result the same.
 */
#ifndef NABLA_FORWARD_INC_H
#define NABLA_FORWARD_INC_H

#include <float.h>
#include <math.h>

#include "finish.inc.h"
#include "words.inc.h"

typedef struct forward_scratch {
    float s[PANEL * PANEL]; /* lanes: S^T, and of floats also P^T */
    float p[PANEL * PANEL]; /* lanes: P^T of pairs */
    float m[PANEL], l[PANEL];
    float panels[]; /* lanes of Q; a panel of K or V; lanes O^T */
} forward_scratch;

static size_t forward_scratch_size(int32_t dim) {
    return sizeof(forward_scratch) + 3 * sizeof(float) * panel_floats(dim);
}

/* One vector of queries against a panel of n keys: from scores s to probabilities p, with m, l and, when m moves, the
   queries' columns of O^T brought up to date. */
static void softmax(const float *s, int32_t n, float scale_log2, float *p, float *m, float *l, float *o, int32_t dim) {
    const vf scale = v_set1(scale_log2);
    vf top = v_set1(-INFINITY), top_odd = top;
    for (int32_t r = 0; r < n; r += 2) {
        top = v_max(v_mul(v_load(s + r * TILE_N), scale), top);
        top_odd = v_max(v_mul(v_load(s + (r + 1 < n ? r + 1 : r) * TILE_N), scale), top_odd);
    }
    top = v_max(top, top_odd);
    vf sum;
    const vf old = raise_reference(top, m, l, o, dim, &sum);
    const vf below = v_sub(v_zero(), v_max(v_set1(-FLT_MAX), old)); /* finite where every score so far is -inf */
    vf sum_odd = v_zero();
    for (int32_t r = 0; r < n; r += 2) {
        const vf even = v_exp2(v_fma(v_load(s + r * TILE_N), scale, below));
        vf odd = v_zero();
        if (r + 1 < n) odd = v_exp2(v_fma(v_load(s + (r + 1) * TILE_N), scale, below));
        sum = v_add(sum, even);
        sum_odd = v_add(sum_odd, odd);
        store_terms(p, r, n, even, odd);
    }
    v_store(l, v_add(sum, sum_odd));
}

/* Keys and values are packed once a head, a panel a piece: every query block that keeps them then finds them dense. */
static size_t piece_floats(int32_t dim) {
    return PANEL * (size_t)row_ld(dim); /* of cols fewer */
}
static size_t packed_size(int64_t pieces, int32_t dim) {
    return (size_t)pieces * piece_floats(dim) * sizeof(float);
}
static float *piece_at(const void *packed, int32_t piece, int32_t dim) {
    return (float *)(uintptr_t)packed + (size_t)piece * piece_floats(dim);
}

static inline rows_ahead piece_ahead(const void *packed, int32_t piece, int32_t dim) {
    const int32_t row = (int32_t)(row_ld(dim) * (int64_t)sizeof(float));
    return (rows_ahead){(const char *)piece_at(packed, piece, dim), row, row, PANEL};
}

/* A panel of n keys: from scores to O^T. next: the piece after this one. */
static void forward_panel(const nabla_forward_task *t, int32_t piece, int32_t n, int32_t next, lanes q, lanes o) {
    const int32_t dim = t->head_dim;
    const float *k = piece_at(t->packed_k, piece, dim), *v = piece_at(t->packed_v, piece, dim), one = 1.0f;
    forward_scratch *x = t->scratch;
    const lanes s = {x->s, PANEL * TILE_N}, p = {PAIRED ? x->p : x->s, PANEL * TILE_N};
    product_fetching(ROWS, n, t->q_count, words(dim), k, row_ld(dim), q, s, NULL, piece_ahead(t->packed_v, piece, dim));
    for (int32_t i = 0; i < t->q_count; i += VL)
        softmax(lane_at(s, i), n, t->scale * LOG2_E, lane_at(p, i), x->m + i, x->l + i, lane_at(o, i), dim);
    product_fetching(COLS, dim, t->q_count, depth(n), v, col_ld(dim), p, o, &one, piece_ahead(t->packed_k, next, dim));
}

static void forward(const nabla_forward_task *t, nabla_dtype type) {
    const int32_t dim = t->head_dim;
    forward_scratch *x = t->scratch;
    float *rows = x->panels + panel_floats(dim);
    const lanes q = {x->panels, words(dim) * TILE_N}, o = {rows + panel_floats(dim), dim * TILE_N};
    memset(o.data, 0, panel_floats(dim) * sizeof *o.data);
    for (int32_t i = 0; i < PANEL; i++)
        x->m[i] = -INFINITY, x->l[i] = 0;
    fill_rows(t->q, type, 0, t->q_count, dim, rows);
    lanes_of_rows(rows, row_ld(dim), t->q_count, words(dim), q);
    for (int32_t i = 0; i < t->block_count; i++) {
        const int32_t block = t->blocks[i], last = t->k_offsets[block + 1];
        const int32_t then =
            t->blocks[i + 1 < t->block_count ? i + 1 : 0]; /* other queries begin with the first, too */
        const int32_t next = t->k_pieces[then];
        for (int32_t at = t->k_offsets[block], piece = t->k_pieces[block]; at < last; at += PANEL, piece++)
            forward_panel(t, piece, last - at < PANEL ? last - at : PANEL, last - at > PANEL ? piece + 1 : next, q, o);
    }
    finish(t, x->m, x->l, o, rows);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The online softmax (arXiv 1805.02867) that forward kernels share: a row's reference m, its sum l relative to it, and
   what becomes of them. Lanes are queries. */
#ifndef NABLA_FINISH_INC_H
#define NABLA_FINISH_INC_H

#include <math.h>

#include "lanes.inc.h"

#define RESCALE_ABOVE 8.0f

/* m moves up to `top` where that passes it by more than 8 (as FlashAttention-4 does), and with it l and the queries'
   columns of O^T; returns m, and l in *sum. */
static inline vf raise_reference(vf top, float *m, const float *l, float *o, int32_t dim, vf *sum) {
    const vf old = v_load(m);
    const uint32_t moves = v_above(top, v_add(old, v_set1(RESCALE_ABOVE)));
    *sum = v_load(l);
    if (!moves) return old;
    const vf now = v_pick(moves, top, old), shrink = v_pick(moves, v_exp2(v_sub(old, now)), v_set1(1.0f));
    *sum = v_mul(*sum, shrink);
    for (int32_t d = 0; d < dim; d++)
        v_store(o + d * TILE_N, v_mul(v_load(o + d * TILE_N), shrink));
    v_store(m, now);
    return now;
}

/* O = beta O + alpha O^T / l, and LSE. */
static void finish(const nabla_forward_task *t, const float *m, const float *l, lanes o_lanes, float *rows) {
    const int64_t ld = col_ld(t->head_dim);
    rows_of_lanes(o_lanes, t->q_count, t->head_dim, rows, ld);
    for (int32_t r = 0; r < t->q_count; r++) {
        const nabla_rows o = {t->o, t->o_stride};
        char *out = (char *)(uintptr_t)row_at(o, t->o_dtype, r);
        const int32_t some = !(l[r] == 0); /* else no key had a probability: all scores are -inf */
        const vf factor = v_set1(some ? t->alpha / l[r] : 0.0f), beta = v_set1(t->beta);
        for (int32_t d = 0; d < t->head_dim; d += VL) {
            const int32_t n = t->head_dim - d;
            vf y = some ? v_mul(v_load(rows + r * ld + d), factor) : v_zero();
            if (t->beta != 0) y = v_fma(beta, load_floats(out, t->o_dtype, d, n), y);
            store_floats(out, t->o_dtype, d, n, y);
        }
        if (t->lse) t->lse[r] = some ? m[r] * LN_2 + logf(l[r]) : -INFINITY;
    }
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Block means of queries and keys, laid out for the score kernel. */
#ifndef NABLA_SCORE_H
#define NABLA_SCORE_H

#include "cpu.h"

enum { NABLA_PANEL = 16 /* keys a panel; see NABLA_DECL_SCORE_ROWS */ };

/* nk keys in whole panels. */
static inline int64_t nabla_panel_keys(int64_t nk) {
    return (nk + NABLA_PANEL - 1) / NABLA_PANEL * NABLA_PANEL;
}

typedef struct nabla_means {
    int32_t head_dim;
    float scale;
    int64_t panel_floats; /* floats of one head's panels */
    float *q;             /* [B * H][nq][D] */
    float *k;             /* [B * H] panels */
} nabla_means;

/* Fills the arrays, which the caller has placed: from q and k, or from the means given in their place. */
void nabla_fill_means(nabla_context *ctx, const nabla_plan *plan, const nabla_scored *in, nabla_means *means);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Block means of queries and keys, laid out for the score kernel. */
#ifndef NABLA_SCORE_H
#define NABLA_SCORE_H

#include "cpu.h"

/* nk keys and the zeros behind them. */
static inline int64_t nabla_score_keys(int64_t nk) {
    return (nk + NABLA_SCORE_KEYS - 1) / NABLA_SCORE_KEYS * NABLA_SCORE_KEYS;
}

typedef struct nabla_means {
    int32_t head_dim;
    float scale;
    size_t key_bytes; /* of one head's keys */
    float *q;         /* [B * H][nq][D] */
    char *k;          /* [B * H] keys as the level's kernels have them */
} nabla_means;

/* Fills the arrays, which the caller has placed: from q and k, or from the means given in their place. */
void nabla_fill_means(nabla_context *ctx, const nabla_plan *plan, const nabla_scored *in, nabla_means *means);

#endif

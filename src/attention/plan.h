/* SPDX-License-Identifier: Apache-2.0 */
/* The plan from inside. One allocation: this struct, then the arrays it points to. */
#ifndef NABLA_PLAN_H
#define NABLA_PLAN_H

#include "nabla/nabla.h"
#include "order.h"

#include <stdbool.h>

struct nabla_plan {
    int64_t batch, heads;
    int64_t nq, nk; /* blocks of queries and of keys */
    int64_t q_tokens, k_tokens;
    int64_t q_words, k_words;       /* words in a column (one bit a query block) and in a row (one bit a key block) */
    int32_t *q_offsets, *k_offsets; /* [nq + 1], [nk + 1]: first tokens of the blocks */
    int32_t *q_pieces,
        *k_pieces; /* [nq + 1], [nk + 1]: first of the pieces of at most 64 rows that blocks are cut into */
    int64_t q_piece_count, k_piece_count;
    bool backward;  /* has columns */
    bool has_tiles; /* both orders were given */
    nabla_tiles q_tiles, k_tiles;
    int64_t documents;       /* 0: all tokens are one document */
    int32_t *document_of;    /* [nq] */
    uint64_t *document_bits; /* [documents][k_words]: the key blocks of each */

    int32_t *set_of;   /* [B * H]: which set of rows a head uses; masks that all heads share are stored once */
    int64_t sets;      /* in use, of B * H */
    uint64_t *rows;    /* [sets][nq][k_words] */
    uint64_t *columns; /* [sets][nk][q_words], the transpose; NULL without backward */
    double kept_mass;  /* see nabla_plan_stats */
};

static inline uint64_t *nabla_plan_row(const nabla_plan *plan, int64_t set, int64_t q_block) {
    return plan->rows + (set * plan->nq + q_block) * plan->k_words;
}

static inline uint64_t *nabla_plan_column(const nabla_plan *plan, int64_t set, int64_t k_block) {
    return plan->columns + (set * plan->nk + k_block) * plan->q_words;
}

/* Says how many sets are in use: B * H (each head its own) or 1 (all heads share it). */
void nabla_plan_use_sets(nabla_plan *plan, bool shared);

/* Makes the columns from the rows; every change of rows ends with it. */
void nabla_plan_finish(nabla_context *ctx, nabla_plan *plan);

nabla_status nabla_check_plan(nabla_context *ctx, const nabla_plan *plan);

/* The counts of a plan that is not made: all of it but for the arrays. */
nabla_status nabla_plan_measure(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan);

/* Scratch bytes of building the plan from queries and keys; plan_build.c. */
nabla_status nabla_build_memory(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, size_t *bytes);

#endif

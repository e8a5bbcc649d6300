/* SPDX-License-Identifier: Apache-2.0 */
/* The plan from inside. One allocation holds this struct and what the host knows of the geometry; the bits are where
   the device keeps them. */
#ifndef NABLA_PLAN_H
#define NABLA_PLAN_H

#include "context.h"
#include "order.h"

#include <stdbool.h>

struct nabla_plan {
    const nabla_device_ops *ops; /* of the context that made it */
    nabla_context *home;         /* that context */
    nabla_place place;
    int64_t batch, heads;
    int64_t nq, nk; /* blocks of queries and of keys */
    int64_t q_tokens, k_tokens;
    int64_t q_words, k_words;       /* words in a column (one bit a query block) and in a row (one bit a key block) */
    int32_t *q_offsets, *k_offsets; /* [nq + 1], [nk + 1]: first tokens of the blocks */
    int32_t *q_pieces,
        *k_pieces; /* [nq + 1], [nk + 1]: first of the pieces of at most 64 rows that blocks are cut into */
    int64_t q_piece_count, k_piece_count;
    int32_t most_keys; /* in a block */
    bool backward;     /* has columns */
    bool has_tiles;    /* both orders were given */
    bool int8;         /* attention over it computes in 8 bits: the policy of the last build asked for it */
    nabla_tiles q_tiles, k_tiles;
    int64_t documents;       /* 0: all tokens are one document */
    int32_t *document_of;    /* [nq] */
    int32_t *document_first; /* [documents + 1]: first key blocks of the documents */

    int64_t sets; /* in use: B * H, each head its own, or 1, which all heads share: such a mask is stored once */
    /* CPU */
    void *bits;              /* one allocation of what follows */
    uint64_t *document_bits; /* [documents][k_words]: the key blocks of each */
    int32_t *set_of;         /* [B * H]: which set of rows a head uses */
    uint64_t *rows;          /* [sets][nq][k_words] */
    uint64_t *columns;       /* [sets][nk][q_words], the transpose; NULL without backward */
    double kept_mass;        /* see nabla_plan_stats */
    /* CUDA: cuda/state.h */
    struct nabla_cuda_bits *cuda;
};

static inline uint64_t *nabla_plan_row(const nabla_plan *plan, int64_t set, int64_t q_block) {
    return plan->rows + (set * plan->nq + q_block) * plan->k_words;
}

static inline uint64_t *nabla_plan_column(const nabla_plan *plan, int64_t set, int64_t k_block) {
    return plan->columns + (set * plan->nk + k_block) * plan->q_words;
}

/* The plan is there and of the context's device. */
nabla_status nabla_check_plan(nabla_context *ctx, const nabla_plan *plan);

/* The counts of a plan that is not made: all of it but for the arrays. */
nabla_status nabla_plan_measure(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan);

/* The sentence about sizes whose product does not fit. */
nabla_status nabla_plan_too_large(nabla_context *ctx, const nabla_plan *plan);

/* Sentences about imports. row: of [B * H * nq]; entry: place in its list, -1: its count; value: what is there. */
nabla_status nabla_fail_list(nabla_context *ctx, int64_t heads, int64_t nq, int64_t nk, int64_t row, int64_t entry,
                             int32_t value);
nabla_status nabla_fail_byte(nabla_context *ctx, int64_t byte, int32_t value);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan is, in numbers: kept blocks, density over token pairs. */
#include "bits.h"
#include "context.h"
#include "plan.h"

/* What a set keeps, in blocks and in token pairs (ragged blocks count by their size). */
typedef struct kept {
    int64_t blocks;
    double pairs;
} kept;

/* The tokens of the blocks whose bits are set. */
static int64_t count_tokens(const uint64_t *row, int64_t words, const int32_t *offsets) {
    int64_t tokens = 0;
    for (int64_t w = 0; w < words; w++)
        for (uint64_t bits = row[w]; bits; bits &= bits - 1) {
            const int64_t k = w * 64 + __builtin_ctzll(bits);
            tokens += offsets[k + 1] - offsets[k];
        }
    return tokens;
}

static kept count_set(const nabla_plan *plan, int64_t set) {
    /* The first tile is never the smaller one, so blocks are equal where they add up as if they were. */
    const int64_t length = plan->k_offsets[1];
    const bool equal = length * plan->nk == plan->k_tokens;
    kept sum = {0};
    for (int64_t q = 0; q < plan->nq; q++) {
        const uint64_t *row = nabla_plan_row(plan, set, q);
        const int64_t blocks = nabla_count_bits(row, plan->k_words);
        const int64_t keys = equal ? blocks * length : count_tokens(row, plan->k_words, plan->k_offsets);
        sum.blocks += blocks;
        sum.pairs += (double)keys * (double)(plan->q_offsets[q + 1] - plan->q_offsets[q]);
    }
    return sum;
}

static double density_of(const nabla_plan *plan, double pairs) {
    return pairs / ((double)plan->q_tokens * (double)plan->k_tokens);
}

nabla_status nabla_plan_densities(nabla_context *ctx, const nabla_plan *plan, double *out) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!out) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "out is NULL");
    const int64_t heads = plan->batch * plan->heads;
    if (plan->sets == 1) {
        const double density = density_of(plan, count_set(plan, 0).pairs);
        for (int64_t i = 0; i < heads; i++)
            out[i] = density;
        return NABLA_OK;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < heads; i++)
        out[i] = density_of(plan, count_set(plan, plan->set_of[i]).pairs);
    return NABLA_OK;
}

nabla_status nabla_plan_get_stats(nabla_context *ctx, const nabla_plan *plan, nabla_plan_stats *stats) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!stats) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "stats is NULL");
    status = nabla_check_struct(ctx, "nabla_plan_stats", stats->size, sizeof *stats);
    if (status) return status;
    const int64_t heads = plan->batch * plan->heads;
    int64_t blocks = 0;
    double pairs = 0.0;
    for (int64_t set = 0; set < plan->sets; set++) {
        const kept sum = count_set(plan, set);
        const int64_t users = plan->sets == 1 ? heads : 1;
        blocks += sum.blocks * users;
        pairs += sum.pairs * (double)users;
    }
    *stats = (nabla_plan_stats){.size = sizeof *stats,
                                .q_blocks = plan->nq,
                                .k_blocks = plan->nk,
                                .q_tokens = plan->q_tokens,
                                .k_tokens = plan->k_tokens,
                                .kept_blocks = blocks,
                                .density = density_of(plan, pairs) / (double)heads,
                                .kept_mass = plan->kept_mass};
    return NABLA_OK;
}

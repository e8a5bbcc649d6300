/* SPDX-License-Identifier: Apache-2.0 */
#include "bits.h"
#include "cpu.h"

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

static nabla_kept count_set(const nabla_plan *plan, int64_t set) {
    /* The first tile is never the smaller one, so blocks are equal where they add up as if they were. */
    const int64_t length = plan->k_offsets[1];
    const bool equal = length * plan->nk == plan->k_tokens;
    nabla_kept sum = {0};
    for (int64_t q = 0; q < plan->nq; q++) {
        const uint64_t *row = nabla_plan_row(plan, set, q);
        const int64_t blocks = nabla_count_bits(row, plan->k_words);
        const int64_t keys = equal ? blocks * length : count_tokens(row, plan->k_words, plan->k_offsets);
        sum.blocks += blocks;
        sum.pairs += (double)keys * (double)(plan->q_offsets[q + 1] - plan->q_offsets[q]);
    }
    return sum;
}

nabla_status nabla_cpu_count(nabla_context *ctx, const nabla_plan *plan, nabla_kept *kept, double *kept_mass) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t set = 0; set < (kept ? plan->sets : 0); set++)
        kept[set] = count_set(plan, set);
    if (kept_mass) *kept_mass = plan->kept_mass;
    return NABLA_OK;
}

nabla_status nabla_cpu_count_pairs(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t set = 0; set < plan->sets; set++)
        pairs[set] = (int64_t)count_set(plan, set).pairs;
    for (int64_t i = plan->sets; i < plan->batch * plan->heads; i++)
        pairs[i] = pairs[0];
    return NABLA_OK;
}

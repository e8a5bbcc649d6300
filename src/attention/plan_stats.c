/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan is, in numbers: kept blocks, density over token pairs. */
#include "device.h"

#include <stdlib.h>

static double density_of(const nabla_plan *plan, double pairs) {
    return pairs / ((double)plan->q_tokens * (double)plan->k_tokens);
}

/* What each set in use keeps; the caller frees it. */
static nabla_status count(nabla_context *ctx, const nabla_plan *plan, nabla_kept **kept, double *kept_mass) {
    *kept = malloc((size_t)plan->sets * sizeof **kept);
    if (!*kept)
        return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for the counts of %lld heads", (long long)plan->sets);
    const nabla_status status = ctx->ops->count(ctx, plan, *kept, kept_mass);
    if (status) {
        free(*kept);
        *kept = NULL;
    }
    return status;
}

nabla_status nabla_plan_densities(nabla_context *ctx, const nabla_plan *plan, double *out) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!out) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "out is NULL");
    nabla_kept *kept;
    status = count(ctx, plan, &kept, NULL);
    if (status) return status;
    for (int64_t i = 0; i < plan->batch * plan->heads; i++)
        out[i] = density_of(plan, kept[plan->sets == 1 ? 0 : i].pairs);
    free(kept);
    return NABLA_OK;
}

nabla_status nabla_plan_count(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!pairs) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "pairs is NULL");
    status = ctx->ops->check_data(ctx, "pairs", pairs);
    return status ? status : ctx->ops->count_pairs(ctx, plan, pairs);
}

nabla_status nabla_plan_get_stats(nabla_context *ctx, const nabla_plan *plan, nabla_plan_stats *stats) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!stats) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "stats is NULL");
    status = nabla_check_struct(ctx, "nabla_plan_stats", stats->size, sizeof *stats);
    if (status) return status;
    const int64_t heads = plan->batch * plan->heads, users = plan->sets == 1 ? heads : 1;
    int64_t blocks = 0;
    double pairs = 0.0, kept_mass;
    nabla_kept *kept;
    status = count(ctx, plan, &kept, &kept_mass);
    if (status) return status;
    for (int64_t set = 0; set < plan->sets; set++) {
        blocks += kept[set].blocks * users;
        pairs += kept[set].pairs * (double)users;
    }
    free(kept);
    *stats = (nabla_plan_stats){.size = sizeof *stats,
                                .q_blocks = plan->nq,
                                .k_blocks = plan->nk,
                                .q_tokens = plan->q_tokens,
                                .k_tokens = plan->k_tokens,
                                .kept_blocks = blocks,
                                .density = density_of(plan, pairs) / (double)heads,
                                .kept_mass = kept_mass};
    return NABLA_OK;
}

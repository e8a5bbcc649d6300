/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan keeps, counted on the GPU and brought to the host. */
#include "state.h"

#include <stdlib.h>

static nabla_status bring_counts(nabla_context *ctx, const nabla_plan *plan, nabla_kept *kept) {
    const nabla_cuda_plan view = nabla_cuda_view(plan);
    const size_t bytes = 2 * (size_t)plan->sets * sizeof(int64_t);
    void *scratch;
    nabla_status status = nabla_cuda_scratch(ctx, bytes, &scratch);
    if (status) return status;
    int64_t *blocks = scratch, *pairs = blocks + plan->sets, *host = malloc(bytes);
    if (!host) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for the counts of a plan");
    status = nabla_cuda_check(ctx, nabla_cuda_count(&view, plan->sets, blocks, pairs, ctx->cuda->stream),
                              "counting a plan's blocks");
    if (!status) status = nabla_cuda_copy(ctx, host, scratch, bytes);
    for (int64_t i = 0; i < plan->sets && !status; i++)
        kept[i] = (nabla_kept){.blocks = host[i], .pairs = (double)host[plan->sets + i]};
    free(host);
    return status;
}

/* The mean over rows, added up in their order. */
static nabla_status bring_mass(nabla_context *ctx, const nabla_plan *plan, double *kept_mass) {
    const int64_t rows = plan->batch * plan->heads * plan->nq;
    float *mass = malloc((size_t)rows * sizeof *mass);
    if (!mass) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for the kept mass of a plan");
    const nabla_status status = nabla_cuda_copy(ctx, mass, plan->cuda->row_mass, (size_t)rows * sizeof *mass);
    double sum = 0.0;
    for (int64_t i = 0; i < rows && !status; i++)
        sum += (double)mass[i];
    *kept_mass = sum / (double)rows;
    free(mass);
    return status;
}

nabla_status nabla_cuda_count_pairs(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs) {
    const nabla_cuda_plan view = nabla_cuda_view(plan);
    return nabla_cuda_check(ctx, nabla_cuda_count(&view, plan->batch * plan->heads, NULL, pairs, ctx->cuda->stream),
                            "counting a plan's blocks");
}

nabla_status nabla_cuda_count_sets(nabla_context *ctx, const nabla_plan *plan, nabla_kept *kept, double *kept_mass) {
    nabla_status status = kept ? bring_counts(ctx, plan, kept) : NABLA_OK;
    if (status || !kept_mass) return status;
    *kept_mass = plan->kept_mass;
    return plan->cuda->scored ? bring_mass(ctx, plan, kept_mass) : NABLA_OK;
}

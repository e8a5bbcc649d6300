/* SPDX-License-Identifier: Apache-2.0 */
/* What a build is asked to do, checked; cpu/build.c and cuda/build.c do it. */
#include "device.h"
#include "policy.h"

#include <string.h>

nabla_plan_inputs nabla_plan_inputs_default(void) {
    return (nabla_plan_inputs){.size = sizeof(nabla_plan_inputs)};
}

static nabla_status check_tokens(nabla_context *ctx, const nabla_plan *plan, const nabla_plan_inputs *in,
                                 int64_t *head_dim) {
    *head_dim = in->q->rank == 4 ? in->q->shape[3] : 0;
    const int64_t q_shape[] = {plan->batch, plan->q_tokens, plan->heads, *head_dim};
    const int64_t k_shape[] = {plan->batch, plan->k_tokens, plan->heads, *head_dim};
    nabla_status status = nabla_check_tensor(ctx, "q", in->q, ctx->ops->accept, 4, q_shape, NABLA_READ);
    if (!status) status = nabla_check_tensor(ctx, "k", in->k, 1u << in->q->dtype, 4, k_shape, NABLA_READ);
    return status;
}

static nabla_status check_given_means(nabla_context *ctx, const nabla_plan *plan, const nabla_plan_inputs *in,
                                      int64_t *head_dim) {
    *head_dim = in->q_mean->rank == 4 ? in->q_mean->shape[3] : 0;
    const int64_t q_shape[] = {plan->batch, plan->heads, plan->nq, *head_dim};
    const int64_t k_shape[] = {plan->batch, plan->heads, plan->nk, *head_dim};
    nabla_status status = nabla_check_tensor(ctx, "q_mean", in->q_mean, NABLA_ACCEPT_FP32, 4, q_shape, NABLA_READ);
    if (!status) status = nabla_check_tensor(ctx, "k_mean", in->k_mean, NABLA_ACCEPT_FP32, 4, k_shape, NABLA_READ);
    return status;
}

static nabla_status check_inputs(nabla_context *ctx, const nabla_plan *plan, const nabla_plan_inputs *inputs,
                                 nabla_scored *scored) {
    int64_t head_dim = 0;
    if (!inputs) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "a nabla policy looks at q and k, and inputs is NULL");
    nabla_status status = nabla_check_struct(ctx, "nabla_plan_inputs", inputs->size, sizeof *inputs);
    if (status) return status;
    if (inputs->q && inputs->k && !inputs->q_mean && !inputs->k_mean)
        status = check_tokens(ctx, plan, inputs, &head_dim);
    else if (inputs->q_mean && inputs->k_mean && !inputs->q && !inputs->k)
        status = check_given_means(ctx, plan, inputs, &head_dim);
    else
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "a nabla policy needs either q and k or q_mean and k_mean in its inputs");
    *scored = (nabla_scored){.q = inputs->q, .k = inputs->k, .q_mean = inputs->q_mean, .k_mean = inputs->k_mean};
    if (!status) status = nabla_check_head_dim(ctx, head_dim);
    if (!status) status = nabla_check_scale(ctx, inputs->scale, head_dim, &scored->scale);
    scored->head_dim = (int32_t)head_dim;
    return status;
}

static nabla_status check_window(nabla_context *ctx, const nabla_plan *plan) {
    if (!plan->has_tiles)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "an sta policy needs a plan made with q_order and k_order");
    if (memcmp(&plan->q_tiles, &plan->k_tiles, sizeof plan->q_tiles))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "an sta policy needs equal tiles for queries (%dx%dx%d) and keys (%dx%dx%d)",
                          (int)plan->q_tiles.frames, (int)plan->q_tiles.height, (int)plan->q_tiles.width,
                          (int)plan->k_tiles.frames, (int)plan->k_tiles.height, (int)plan->k_tiles.width);
    return NABLA_OK;
}

nabla_status nabla_plan_build(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy,
                              const nabla_plan_inputs *inputs) {
    nabla_scored scored = {0};
    nabla_status status = nabla_check_plan(ctx, plan);
    if (!status) status = nabla_check_policy(ctx, policy);
    if (!status && policy->has_sta) status = check_window(ctx, plan);
    if (!status && policy->has_nabla && !policy->dense) status = check_inputs(ctx, plan, inputs, &scored);
    if (!status) status = ctx->ops->build(ctx, plan, policy, &scored);
    if (!status) plan->int8 = policy->int8 != 0;
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "score.h"
#include "layout.h"
#include "tensor.h"

#include <string.h>

nabla_plan_inputs nabla_plan_inputs_default(void) {
    return (nabla_plan_inputs){.size = sizeof(nabla_plan_inputs)};
}

static nabla_status check_tokens(nabla_context *ctx, const nabla_plan *plan, const nabla_plan_inputs *in,
                                 int64_t *head_dim) {
    const unsigned accept = NABLA_ACCEPT_FP32 | NABLA_ACCEPT_BF16;
    *head_dim = in->q->rank == 4 ? in->q->shape[3] : 0;
    const int64_t q_shape[] = {plan->batch, plan->q_tokens, plan->heads, *head_dim};
    const int64_t k_shape[] = {plan->batch, plan->k_tokens, plan->heads, *head_dim};
    nabla_status status = nabla_check_tensor(ctx, "q", in->q, accept, 4, q_shape, NABLA_READ);
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

nabla_status nabla_check_inputs(nabla_context *ctx, const nabla_plan *plan, const nabla_plan_inputs *inputs,
                                nabla_means *means) {
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
    if (!status) status = nabla_check_head_dim(ctx, head_dim);
    if (!status) status = nabla_check_scale(ctx, inputs->scale, head_dim, &means->scale);
    means->head_dim = (int32_t)head_dim;
    means->panel_floats = nabla_panel_keys(plan->nk) * head_dim;
    return status;
}

/* The mean of block `block` of head bh, of tokens or as given. [D] */
static void mean_of(const nabla_kernels *kernels, const nabla_tensor *tokens, const nabla_tensor *given,
                    const int32_t *offsets, int64_t heads, int64_t bh, int64_t block, int32_t head_dim, float *mean) {
    if (given) {
        memcpy(mean, nabla_tensor_at(given, bh / heads, bh % heads, block), (size_t)head_dim * sizeof *mean);
        return;
    }
    kernels->of[tokens->dtype].block_mean(nabla_tensor_rows(tokens, bh / heads, bh % heads), offsets[block],
                                          offsets[block + 1], head_dim, mean);
}

void nabla_fill_means(nabla_context *ctx, const nabla_plan *plan, const nabla_plan_inputs *inputs, nabla_means *means) {
    const int64_t heads = plan->heads, nq = plan->nq, nk = plan->nk, padded = nabla_panel_keys(nk);
    const int32_t dim = means->head_dim;
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < plan->batch * (nq + padded) * heads; i++) { /* heads innermost: their rows are neighbours */
        const int64_t batch = i / heads / (nq + padded), bh = batch * heads + i % heads;
        const int64_t block = i / heads % (nq + padded), key = block - nq;
        if (block < nq) {
            mean_of(&ctx->kernels, inputs->q, inputs->q_mean, plan->q_offsets, heads, bh, block, dim,
                    means->q + (bh * nq + block) * dim);
            continue;
        }
        float mean[256] = {0};
        if (key < nk) mean_of(&ctx->kernels, inputs->k, inputs->k_mean, plan->k_offsets, heads, bh, key, dim, mean);
        float *panel = means->k + bh * means->panel_floats + key / NABLA_PANEL * NABLA_PANEL * dim + key % NABLA_PANEL;
        for (int32_t d = 0; d < dim; d++)
            panel[(int64_t)d * NABLA_PANEL] = mean[d];
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "attention.h"
#include "device.h"

#include <math.h>

nabla_attention_params nabla_attention_params_default(void) {
    return (nabla_attention_params){
        .size = sizeof(nabla_attention_params), .alpha = 1.0f, .beta = 0.0f, .deterministic = 1};
}

static nabla_status check_params(nabla_call *call, const nabla_attention_params *params) {
    const nabla_attention_params defaults = nabla_attention_params_default();
    const nabla_attention_params *p = params ? params : &defaults;
    nabla_status status = nabla_check_struct(call->ctx, "nabla_attention_params", p->size, sizeof *p);
    if (status) return status;
    if (!isfinite(p->alpha) || !isfinite(p->beta))
        return nabla_fail(call->ctx, NABLA_INVALID_ARGUMENT, "alpha is %g and beta %g; both must be finite",
                          (double)p->alpha, (double)p->beta);
    call->alpha = p->alpha;
    call->beta = p->beta;
    call->deterministic = p->deterministic != 0;
    return nabla_check_scale(call->ctx, p->scale, call->head_dim, &call->scale);
}

/* Plan, params, and q, k, v against each other. */
static nabla_status check_call(nabla_context *ctx, const nabla_attention_params *params, nabla_call *call) {
    const nabla_plan *plan = call->plan;
    nabla_status status = nabla_check_plan(ctx, plan);
    if (!status) status = nabla_check_view(ctx, "q", call->q, NABLA_READ);
    if (status) return status;
    const int64_t dim = call->q->rank == 4 ? call->q->shape[3] : 0;
    const int64_t q_shape[] = {plan->batch, plan->q_tokens, plan->heads, dim};
    const int64_t k_shape[] = {plan->batch, plan->k_tokens, plan->heads, dim};
    call->ctx = ctx;
    call->dtype = call->q->dtype;
    call->head_dim = (int32_t)dim;
    status = nabla_check_tensor(ctx, "q", call->q, ctx->ops->accept, 4, q_shape, NABLA_READ);
    if (!status) status = nabla_check_head_dim(ctx, dim);
    if (!status) status = nabla_check_tensor(ctx, "k", call->k, 1u << call->dtype, 4, k_shape, NABLA_READ);
    if (!status) status = nabla_check_tensor(ctx, "v", call->v, 1u << call->dtype, 4, k_shape, NABLA_READ);
    return status ? status : check_params(call, params);
}

/* o or one of its kind: [B, S, H, D], fp32 or the dtype of q. */
static nabla_status check_side(const nabla_call *call, const char *name, const nabla_tensor *t, int64_t tokens,
                               nabla_access access) {
    const int64_t shape[] = {call->plan->batch, tokens, call->plan->heads, call->head_dim};
    return nabla_check_tensor(call->ctx, name, t, NABLA_ACCEPT_FP32 | 1u << call->dtype, 4, shape, access);
}

static nabla_status check_lse(const nabla_call *call, const nabla_tensor *lse, nabla_access access) {
    const int64_t shape[] = {call->plan->batch, call->plan->heads, call->plan->q_tokens};
    nabla_status status = nabla_check_tensor(call->ctx, "lse", lse, NABLA_ACCEPT_FP32, 3, shape, access);
    if (status) return status;
    if ((shape[0] > 1 && lse->stride[0] != shape[1] * shape[2]) || (shape[1] > 1 && lse->stride[1] != shape[2]))
        return nabla_fail(call->ctx, NABLA_INVALID_ARGUMENT, "lse must be contiguous, [B, H, Sq]");
    return NABLA_OK;
}

nabla_status nabla_attention_forward(nabla_context *ctx, const nabla_plan *plan, const nabla_attention_params *params,
                                     const nabla_tensor *q, const nabla_tensor *k, const nabla_tensor *v,
                                     const nabla_tensor *o, const nabla_tensor *lse) {
    nabla_call call = {.plan = plan, .q = q, .k = k, .v = v, .o = o, .lse = lse};
    nabla_status status = check_call(ctx, params, &call);
    if (!status) status = check_side(&call, "o", o, plan->q_tokens, NABLA_WRITE);
    if (!status && lse) status = check_lse(&call, lse, NABLA_WRITE);
    return status ? status : ctx->ops->forward(&call);
}

static nabla_status check_backward(const nabla_call *call) {
    const nabla_plan *plan = call->plan;
    const int64_t sq = plan->q_tokens, sk = plan->k_tokens;
    if (plan->int8)
        return nabla_fail(call->ctx, NABLA_UNSUPPORTED,
                          "the plan's policy asks for int8, which has no backward pass: build it of the policy without "
                          "_int8 to train");
    nabla_status status = check_side(call, "o", call->o, sq, NABLA_READ);
    if (!status) status = check_lse(call, call->lse, NABLA_READ);
    if (!status) status = check_side(call, "d_o", call->d_o, sq, NABLA_READ);
    if (!status && call->d_q) status = check_side(call, "d_q", call->d_q, sq, NABLA_WRITE);
    if (!status && call->d_k) status = check_side(call, "d_k", call->d_k, sk, NABLA_WRITE);
    if (!status && call->d_v) status = check_side(call, "d_v", call->d_v, sk, NABLA_WRITE);
    if (!status && (call->d_k || call->d_v) && !plan->backward)
        return nabla_fail(call->ctx, NABLA_INVALID_ARGUMENT,
                          "d_k and d_v need a plan created with backward = 1, and this one has 0");
    return status;
}

nabla_status nabla_attention_backward(nabla_context *ctx, const nabla_plan *plan, const nabla_attention_params *params,
                                      const nabla_tensor *q, const nabla_tensor *k, const nabla_tensor *v,
                                      const nabla_tensor *o, const nabla_tensor *lse, const nabla_tensor *d_o,
                                      const nabla_tensor *d_q, const nabla_tensor *d_k, const nabla_tensor *d_v) {
    nabla_call call = {
        .plan = plan, .q = q, .k = k, .v = v, .o = o, .lse = lse, .d_o = d_o, .d_q = d_q, .d_k = d_k, .d_v = d_v};
    nabla_status status = check_call(ctx, params, &call);
    if (!status) status = check_backward(&call);
    return status ? status : ctx->ops->backward(&call);
}

nabla_status nabla_attention_memory(nabla_context *ctx, const nabla_plan_desc *desc,
                                    const nabla_attention_params *params, nabla_dtype dtype, int64_t head_dim,
                                    int32_t backward, size_t *bytes) {
    nabla_plan plan;
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    *bytes = 0;
    if (!nabla_dtype_size(dtype) || !(ctx->ops->accept >> dtype & 1u))
        return nabla_fail(ctx, NABLA_UNSUPPORTED, "dtype %d is not supported on %s; use %s", (int)dtype, ctx->ops->name,
                          nabla_dtype_names(ctx->ops->accept));
    nabla_call call = {.ctx = ctx, .plan = &plan, .dtype = dtype, .head_dim = (int32_t)head_dim};
    nabla_status status = nabla_check_head_dim(ctx, head_dim);
    if (!status) status = nabla_plan_measure(ctx, desc, &plan);
    if (!status) status = check_params(&call, params);
    if (status) return status;
    size_t build = 0, pass = 0;
    status = ctx->ops->build_memory(ctx, &plan, head_dim, &build);
    if (!status) status = backward ? ctx->ops->backward_memory(&call, &pass) : ctx->ops->forward_memory(&call, &pass);
    if (!status) *bytes = build > pass ? build : pass;
    return status;
}

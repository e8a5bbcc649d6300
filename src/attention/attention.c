/* SPDX-License-Identifier: Apache-2.0 */
#include "attention.h"

#include <math.h>
#include <stdlib.h>

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

nabla_status nabla_check_call(nabla_context *ctx, const nabla_plan *plan, const nabla_attention_params *params,
                              const nabla_tensor *q, const nabla_tensor *k, const nabla_tensor *v, nabla_call *call) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (!status) status = nabla_check_view(ctx, "q", q, NABLA_READ);
    if (status) return status;
    const int64_t dim = q->rank == 4 ? q->shape[3] : 0;
    const int64_t q_shape[] = {plan->batch, plan->q_tokens, plan->heads, dim};
    const int64_t k_shape[] = {plan->batch, plan->k_tokens, plan->heads, dim};
    const unsigned accept = NABLA_ACCEPT_FP32 | NABLA_ACCEPT_BF16;
    *call = (nabla_call){.ctx = ctx, .plan = plan, .dtype = q->dtype, .head_dim = (int32_t)dim};
    status = nabla_check_tensor(ctx, "q", q, accept, 4, q_shape, NABLA_READ);
    if (!status) status = nabla_check_head_dim(ctx, dim);
    if (!status) status = nabla_check_tensor(ctx, "k", k, 1u << q->dtype, 4, k_shape, NABLA_READ);
    if (!status) status = nabla_check_tensor(ctx, "v", v, 1u << q->dtype, 4, k_shape, NABLA_READ);
    return status ? status : check_params(call, params);
}

nabla_status nabla_check_side(const nabla_call *call, const char *name, const nabla_tensor *t, int64_t tokens,
                              nabla_access access) {
    const int64_t shape[] = {call->plan->batch, tokens, call->plan->heads, call->head_dim};
    return nabla_check_tensor(call->ctx, name, t, NABLA_ACCEPT_FP32 | 1u << call->dtype, 4, shape, access);
}

nabla_status nabla_check_lse(const nabla_call *call, const nabla_tensor *lse, nabla_access access) {
    const int64_t shape[] = {call->plan->batch, call->plan->heads, call->plan->q_tokens};
    nabla_status status = nabla_check_tensor(call->ctx, "lse", lse, NABLA_ACCEPT_FP32, 3, shape, access);
    if (status) return status;
    if ((shape[0] > 1 && lse->stride[0] != shape[1] * shape[2]) || (shape[1] > 1 && lse->stride[1] != shape[2]))
        return nabla_fail(call->ctx, NABLA_INVALID_ARGUMENT, "lse must be contiguous, [B, H, Sq]");
    return NABLA_OK;
}

static int dearer(const void *a, const void *b) {
    const nabla_task *x = a, *y = b;
    if (x->cost != y->cost) return x->cost > y->cost ? -1 : 1;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

void nabla_order_tasks(nabla_task *tasks, int64_t count, int64_t per_head, int32_t threads) {
    enum { LAST_TASKS = 8 /* a thread */ };
    const int64_t tail = per_head > LAST_TASKS * (int64_t)threads ? per_head : LAST_TASKS * (int64_t)threads;
    const int64_t first = count > tail ? count - tail : 0;
    qsort(tasks + first, (size_t)(count - first), sizeof *tasks, dearer);
}

nabla_status nabla_attention_memory(nabla_context *ctx, const nabla_plan_desc *desc,
                                    const nabla_attention_params *params, nabla_dtype dtype, int64_t head_dim,
                                    int32_t backward, size_t *bytes) {
    nabla_plan plan;
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    *bytes = 0;
    if (dtype != NABLA_FP32 && dtype != NABLA_BF16)
        return nabla_fail(ctx, NABLA_UNSUPPORTED, "dtype %d is not supported on the CPU; use fp32 or bf16", (int)dtype);
    nabla_call call = {.ctx = ctx, .plan = &plan, .dtype = dtype, .head_dim = (int32_t)head_dim};
    nabla_status status = nabla_check_head_dim(ctx, head_dim);
    if (!status) status = nabla_plan_measure(ctx, desc, &plan);
    if (!status) status = check_params(&call, params);
    if (status) return status;
    size_t build = 0, pass = 0;
    status = nabla_build_memory(ctx, &plan, head_dim, &build);
    if (!status)
        status = backward ? nabla_backward_memory(ctx, &plan, dtype, (int32_t)head_dim, call.deterministic, &pass)
                          : nabla_forward_memory(ctx, &plan, dtype, (int32_t)head_dim, &pass);
    if (!status) *bytes = build > pass ? build : pass;
    return status;
}

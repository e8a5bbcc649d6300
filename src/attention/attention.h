/* SPDX-License-Identifier: Apache-2.0 */
/* What the forward and backward passes share: checked sizes, and tasks in the order to run them. */
#ifndef NABLA_ATTENTION_H
#define NABLA_ATTENTION_H

#include "context.h"
#include "plan.h"
#include "tensor.h"

/* A checked call. */
typedef struct nabla_call {
    nabla_context *ctx;
    const nabla_plan *plan;
    nabla_dtype dtype;
    int32_t head_dim;
    float scale, alpha, beta;
    bool deterministic;
} nabla_call;

/* A piece of work: up to NABLA_Q_ROWS rows of a query block forward, a whole block backward. */
typedef struct nabla_task {
    int32_t head; /* b * H + h */
    int32_t block;
    int32_t first, last; /* rows, that is tokens */
    int64_t cost;        /* rows times kept blocks */
} nabla_task;

/* The checks that both passes make: plan, params, and q, k, v against each other. */
nabla_status nabla_check_call(nabla_context *ctx, const nabla_plan *plan, const nabla_attention_params *params,
                              const nabla_tensor *q, const nabla_tensor *k, const nabla_tensor *v, nabla_call *call);

/* o or one of its kind: [B, S, H, D], fp32 or the call's dtype. */
nabla_status nabla_check_side(const nabla_call *call, const char *name, const nabla_tensor *t, int64_t tokens,
                              nabla_access access);
nabla_status nabla_check_lse(const nabla_call *call, const nabla_tensor *lse, nabla_access access);

/* Scratch bytes of a pass; forward.c and backward.c. */
nabla_status nabla_forward_memory(nabla_context *ctx, const nabla_plan *plan, nabla_dtype dtype, int32_t head_dim,
                                  size_t *bytes);
nabla_status nabla_backward_memory(nabla_context *ctx, const nabla_plan *plan, nabla_dtype dtype, int32_t head_dim,
                                   bool deterministic, size_t *bytes);

/* Heads one after another, so that a head's keys stay in cache; among the last head's tasks, and the last few a thread,
   the dearest first: what runs last is short, and no thread ends late. */
void nabla_order_tasks(nabla_task *tasks, int64_t count, int64_t per_head, int32_t threads);

#endif

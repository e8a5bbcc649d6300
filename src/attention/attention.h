/* SPDX-License-Identifier: Apache-2.0 */
/* A checked call of attention, the same for both passes and every device. */
#ifndef NABLA_ATTENTION_H
#define NABLA_ATTENTION_H

#include "context.h"
#include "plan.h"
#include "tensor.h"

/* Where only memory is asked for, the plan has its counts alone and tensors are NULL. */
typedef struct nabla_call {
    nabla_context *ctx;
    const nabla_plan *plan;
    nabla_dtype dtype;
    int32_t head_dim;
    float scale, alpha, beta;
    bool deterministic;
    const nabla_tensor *q, *k, *v, *o, *lse;   /* lse may be NULL forward */
    const nabla_tensor *d_o, *d_q, *d_k, *d_v; /* backward; the last three may be NULL */
} nabla_call;

#endif

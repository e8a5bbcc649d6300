/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge from the engine's matrices to libnabla: [B * S, H * D] columns are [B, S, H, D] tensors with strides.
   Times are kept on the device's clock. */
#ifndef NV_ATTEND_H
#define NV_ATTEND_H

#include "device/device.h"

typedef struct nv_attend {
    nabla_plan *plan;
    int64_t batch;
    int32_t heads;
    nv_matrix q, k, v, o; /* [batch * tokens, dim]; q, o and k, v may have different numbers of rows */
    nv_matrix exact;      /* o in fp32, kept for the backward pass; data NULL: o serves, as fp32 or without one */
    float *lse;           /* [batch, heads, q tokens]; NULL without a backward pass */
} nv_attend;

/* Memory that all layers of a model share, [M, ..] in the compute dtype. Without a backward pass nothing of a branch is
   needed behind it but its result: these four, with the norm's output, are then all that a block takes. */
typedef struct nv_shared {
    nv_matrix wide; /* [M, 3 dim or more] a branch's widest product */
    nv_matrix pair; /* [M, 2 dim] queries and keys; only without a backward pass */
    nv_matrix o;    /* [M, dim] what attention gave; with one, only where `exact` is kept */
    nv_matrix y;    /* [M, dim] a branch's result, until the seam behind it has read it */
} nv_shared;

/* The first columns of a shared matrix as one of its own. */
static inline nv_matrix nv_shared_as(nv_matrix m, nabla_dtype dtype, int64_t cols) {
    return nv_matrix_of(m.data, dtype, m.rows, cols);
}

/* Why exact: the gradient of a score is P (dP - dO . O), a difference of near equals where attention is flat. O rounded
   to bf16 puts a tenth of noise on the gradients of q and k there; rounding anything else hardly shows. o can then be
   scratch: nv_attend_output makes it again. */

/* Fills the plan from q and k. */
nabla_status nv_attend_plan(nv_device *dev, const nv_attend *a, const nabla_policy *policy, nv_error *err);
nabla_status nv_attend_forward(nv_device *dev, const nv_attend *a, nv_error *err);
nabla_status nv_attend_output(nv_device *dev, const nv_attend *a, nv_error *err); /* o from exact */
nabla_status nv_attend_backward(nv_device *dev, const nv_attend *a, nv_matrix d_o, nv_matrix d_q, nv_matrix d_k,
                                nv_matrix d_v, nv_error *err);

#endif

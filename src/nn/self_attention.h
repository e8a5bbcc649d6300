/* SPDX-License-Identifier: Apache-2.0 */
/* Self-attention with RMSNorm of q and k, rotary positions and a block-sparse plan. */
#ifndef NV_SELF_ATTENTION_H
#define NV_SELF_ATTENTION_H

#include "nn/attend.h"
#include "nn/linear.h"
#include "tensor/arena.h"

typedef struct nv_self_attention {
    nv_linear qkv; /* [3 dim, dim] */
    nv_linear out; /* its d_bias is left to the seam behind */
    const float *norm_q, *norm_k;
    float *d_norm_q, *d_norm_k;
    int32_t heads;
    float eps;
} nv_self_attention;

/* What a forward pass leaves behind for the backward one. */
typedef struct nv_self_attention_run {
    int64_t batch, tokens;
    const float *rope; /* [tokens, head_dim] */
    nabla_plan *plan;
    nv_matrix qkv;         /* [M, 3 dim] as projected */
    nv_matrix qk;          /* [M, 2 dim] normed and turned */
    nv_matrix o, exact, y; /* [M, dim] attention's output (attend.h), and the branch's after the projection */
    float *rstd_q, *rstd_k, *lse;
} nv_self_attention_run;

void nv_self_attention_layout(nv_self_attention_run *r, nv_arena *arena, const nv_self_attention *p, int64_t batch,
                              int64_t tokens, nabla_dtype compute, int train, const nv_shared *shared);
nabla_status nv_self_attention_forward(nv_device *dev, const nv_self_attention *p, nv_self_attention_run *r,
                                       nv_matrix x, const nabla_policy *policy, nv_error *err);
/* d_y -> d_x. Scratch: d_qkv [M, 3 dim]. */
nabla_status nv_self_attention_backward(nv_device *dev, const nv_self_attention *p, nv_self_attention_run *r,
                                        nv_matrix x, nv_matrix d_y, nv_matrix d_qkv, nv_matrix d_x, nv_error *err);

#endif

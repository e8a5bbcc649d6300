/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-attention to the text: dense, no positions. */
#ifndef NV_CROSS_ATTENTION_H
#define NV_CROSS_ATTENTION_H

#include "nn/attend.h"
#include "nn/linear.h"
#include "tensor/arena.h"

typedef struct nv_cross_attention {
    nv_linear q, kv; /* [dim, dim], [2 dim, dim] */
    nv_linear out;   /* its d_bias is left to the seam behind */
    const float *norm_q, *norm_k;
    float *d_norm_q, *d_norm_k;
    int32_t heads;
    float eps;
} nv_cross_attention;

typedef struct nv_cross_attention_run {
    int64_t batch, tokens, text_length;
    nabla_plan *plan;      /* dense, tokens x text_length */
    nv_matrix q, q_n;      /* [M, dim] as projected, normed */
    nv_matrix kv, k_n;     /* [B * text_length, 2 dim] as projected, [.., dim] normed */
    nv_matrix o, exact, y; /* [M, dim] attention's output (attend.h), and the branch's after the projection */
    float *rstd_q, *rstd_k, *lse;
} nv_cross_attention_run;

void nv_cross_attention_layout(nv_cross_attention_run *r, nv_arena *arena, const nv_cross_attention *p, int64_t batch,
                               int64_t tokens, int64_t text_length, nabla_dtype compute, int train,
                               const nv_shared *shared);
/* text: [B * text_length, dim], what the text embedding made. */
nabla_status nv_cross_attention_forward(nv_device *dev, const nv_cross_attention *p, nv_cross_attention_run *r,
                                        nv_matrix x, nv_matrix text, nv_error *err);
/* d_y -> d_x, and d_text (fp32 [B * text_length, dim]) += its part. Scratch: d_q [M, dim], d_kv as kv. */
nabla_status nv_cross_attention_backward(nv_device *dev, const nv_cross_attention *p, nv_cross_attention_run *r,
                                         nv_matrix x, nv_matrix text, nv_matrix d_y, nv_matrix d_q, nv_matrix d_kv,
                                         nv_matrix d_x, nv_matrix d_text, nv_error *err);

#endif

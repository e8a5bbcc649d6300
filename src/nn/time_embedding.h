/* SPDX-License-Identifier: Apache-2.0 */
/* The time embedding, fp32 throughout: sinusoid, linear, SiLU, linear give the embedding t (the head's modulation);
   SiLU and one more linear give e, six vectors of dim for every block's modulation. Rows are samples. */
#ifndef NV_TIME_EMBEDDING_H
#define NV_TIME_EMBEDDING_H

#include "nn/linear.h"
#include "tensor/arena.h"

typedef struct nv_time_embedding {
    nv_linear in, out, project;
} nv_time_embedding;

typedef struct nv_time_embedding_run {
    nv_matrix sinusoid;      /* [B, freq_dim] */
    nv_matrix u, h;          /* [B, dim] first linear, its SiLU */
    nv_matrix t, t_act;      /* [B, dim] the embedding, its SiLU */
    nv_matrix e;             /* [B, 6 dim] */
    nv_matrix d_t, d_hidden; /* [B, dim] backward; d_t: see below */
} nv_time_embedding_run;

void nv_time_embedding_layout(nv_time_embedding_run *r, nv_arena *arena, const nv_time_embedding *p, int64_t batch);
nabla_status nv_time_embedding_forward(nv_device *dev, const nv_time_embedding *p, nv_time_embedding_run *r,
                                       const float *time, nv_error *err);
/* From d_e [B, 6 dim], and d_t_head [B, dim]: what the head's modulation adds to t's gradient. */
nabla_status nv_time_embedding_backward(nv_device *dev, const nv_time_embedding *p, nv_time_embedding_run *r,
                                        nv_matrix d_e, const float *d_t_head, nv_error *err);

#endif

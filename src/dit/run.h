/* SPDX-License-Identifier: Apache-2.0 */
/* A run from inside: the activations of one batch shape. M = batch * tokens rows. */
#ifndef NV_DIT_RUN_H
#define NV_DIT_RUN_H

#include "dit/model.h"

/* What the norm of one branch leaves for its backward pass, and its output. */
typedef struct nv_dit_norm_run {
    nv_matrix n; /* [M, dim] the branch's input */
    void *xhat;
    float *rstd;
} nv_dit_norm_run;

typedef struct nv_dit_block_run {
    float *modulation, *d_modulation; /* [B, 6, dim] */
    nv_dit_norm_run norm[3];          /* in front of self-attention, cross-attention, feed-forward */
    nv_self_attention_run self;
    nv_cross_attention_run cross;
    nv_matrix ffn_u, ffn_y; /* [M, ffn], [M, dim] */
    float *kept;            /* [M, dim] the stream behind the first seam, with shape.recompute; NULL in the last block,
                               whose activations are still there when the backward pass begins */
} nv_dit_block_run;

/* What the first seam of a block needs in the backward pass when the activations of the block below lie already where
   those of its own were: shape.recompute has two of them, by turns. */
typedef struct nv_dit_turn {
    nv_matrix ffn_y;
    void *xhat;
    float *rstd;
} nv_dit_turn;

struct nv_dit_run {
    nv_dit *m;
    nv_dit_shape shape;
    int32_t grid[3];
    int64_t tokens, rows, text_rows;
    nabla_order *order;
    nabla_plan **plans; /* [layers] */
    nabla_plan *cross_plan;
    nv_dit_block_run *blocks; /* [layers]; without training, or with recompute, all share one set of activations */
    void *memory;
    size_t bytes;
    int filled;            /* a forward pass was done and no backward pass since */
    int backward;          /* a backward pass came after the last forward */
    int64_t *pairs, *kept; /* [layers, B, heads] token pairs that the plans keep: counted there, brought to the host */

    int32_t *raster;                   /* [tokens] */
    float *rope;                       /* [tokens, head_dim] */
    float *x;                          /* [M, dim] residual stream of the forward pass */
    float *stream;                     /* the stream that seams work on: x, or what a block kept of it */
    nv_matrix patches;                 /* [M, patch_in] */
    nv_shared shared;                  /* wide: [M, max(ffn, 3 dim)], of use at both ends too (take_ends) */
    nv_matrix context;                 /* [B * L, text_dim] in the compute dtype */
    nv_matrix text_u, text_wide, text; /* [B * L, dim] */
    nv_time_embedding_run time;
    float *head_modulation, *d_head_modulation; /* [B, 2, dim] */
    nv_dit_norm_run head_norm;                  /* fp32 */
    nv_matrix head_out;                         /* [M, patch_out] fp32; its gradient too */

    /* Backward. */
    float *d_x;                   /* [M, dim] the stream's gradient */
    nv_matrix d_n, d_y;           /* [M, dim] */
    nv_matrix d_head_n;           /* [M, dim] fp32 */
    nv_matrix d_kv;               /* [B * L, 2 dim] */
    nv_matrix d_text;             /* [B * L, dim] fp32 */
    nv_matrix d_text_y, d_text_x; /* [B * L, dim], [B * L, text_dim] compute dtype */
    nv_matrix d_e;                /* [B, 6 dim] */
    float *d_t_head;              /* [B, dim] */
    nv_dit_turn turns[2];         /* with shape.recompute */
};

/* Heads of self-attention of all layers and samples. */
int64_t nv_dit_run_heads(const nv_dit_run *run);
/* Fills the block's activations once more from what was kept of it, which is used up. */
nabla_status nv_dit_block_again(nv_dit_run *run, int32_t layer, nv_error *err);

/* The seam in front of branch 0, 1, 2 of a block (layer == layers, branch 0: of the head). Which branch came before is
   part of it: its output y and its gate. */
nv_seam nv_dit_seam(const nv_dit_run *run, int32_t layer, int branch);
/* Latent's geometry; out: the head's. */
nv_patches nv_dit_patches(const nv_dit_run *run, int out);

#endif

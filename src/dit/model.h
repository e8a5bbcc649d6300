/* SPDX-License-Identifier: Apache-2.0 */
/* The model from inside: parameters and the layers made of them. */
#ifndef NV_DIT_MODEL_H
#define NV_DIT_MODEL_H

#include "dit/dit.h"
#include "dit/offload.h"
#include "nn/cross_attention.h"
#include "nn/feed_forward.h"
#include "nn/self_attention.h"
#include "nn/time_embedding.h"

/* Affine or modulation vectors, with their gradients. */
typedef struct nv_dit_vector {
    const float *value;
    float *grad;
} nv_dit_vector;

/* Norms are numbered as diffusers does: norm2 stands before cross-attention. */
typedef struct nv_dit_block {
    nv_dit_vector modulation; /* [6, dim]: shift, scale, gate of attention; shift, scale, gate of the feed-forward */
    nv_self_attention self;
    nv_dit_vector norm2_weight, norm2_bias; /* value NULL without cross_attn_norm */
    nv_cross_attention cross;
    nv_feed_forward ffn;
} nv_dit_block;

struct nv_dit {
    nv_device *device;
    nv_dit_config config;
    nabla_dtype compute;
    nv_dit_use use;
    int64_t dim, patch_in, patch_out; /* columns of a patch, in and out */
    size_t count, total;              /* parameters, and their numbers */
    nv_parameter *parameters;
    char *names;
    void *memory; /* the device's, of all parameters or slots for them */
    nv_dit_offload offload;
    nv_linear patch, head;
    nv_dit_vector head_modulation; /* [2, dim]: shift, scale */
    nv_time_embedding time;
    nv_feed_forward text;
    nv_dit_block *blocks;
};

enum { NV_DIT_SHIFT, NV_DIT_SCALE, NV_DIT_GATE, NV_DIT_FFN_SHIFT, NV_DIT_FFN_SCALE, NV_DIT_FFN_GATE, NV_DIT_CHUNKS };

/* parameters.c: the list of parameters by name, shape and place; nv_dit_init is there too. */
nabla_status nv_dit_list_parameters(nv_dit *m, nv_error *err);
/* The parameter of that name; layer -1 for those outside of blocks. NULL if this model has none. */
nv_parameter *nv_dit_find(nv_dit *m, int32_t layer, const char *name);

/* Where a parameter's numbers are kept: the master where there is one, else what products read. */
nv_matrix nv_dit_stored(const nv_parameter *p);

/* All of a model (config is set) but its memory: sizes and parameters, whose values are NULL; and its end. */
nabla_status nv_dit_describe(nv_dit *m, nv_error *err);
void nv_dit_forget(nv_dit *m);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The size of a Wan2.1 transformer; names of diffusers' config.json in comments. */
#ifndef NV_DIT_CONFIG_H
#define NV_DIT_CONFIG_H

#include <stdint.h>

typedef struct nv_dit_config {
    int32_t patch[3];        /* patch_size: frames, rows, columns */
    int32_t in_channels;     /* in_channels */
    int32_t out_channels;    /* out_channels */
    int32_t heads;           /* num_attention_heads */
    int32_t head_dim;        /* attention_head_dim; dim = heads * head_dim */
    int32_t layers;          /* num_layers */
    int32_t ffn_dim;         /* ffn_dim */
    int32_t freq_dim;        /* freq_dim */
    int32_t text_dim;        /* text_dim */
    int32_t cross_attn_norm; /* cross_attn_norm */
    int32_t rope_max;        /* rope_max_seq_len, positions an axis */
    float eps;               /* eps */
} nv_dit_config;

#endif

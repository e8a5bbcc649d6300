/* SPDX-License-Identifier: Apache-2.0 */
/* What an AutoencoderKLWan is; the names are those of diffusers' config.json. */
#ifndef NV_VAE_CONFIG_H
#define NV_VAE_CONFIG_H

#include <stdint.h>

enum { NV_VAE_MOST_LEVELS = 8, NV_VAE_MOST_Z = 256, NV_VAE_MOST_BLOCKS = 16, NV_VAE_MOST_CHANNELS = 16384 };

typedef struct nv_vae_config {
    int32_t base_dim, decoder_base_dim; /* channels of the finest level, of encoder and decoder */
    int32_t z_dim;                      /* channels of the latent */
    int32_t levels;                     /* of resolution; each but the last halves the sides */
    int32_t dim_mult[NV_VAE_MOST_LEVELS];
    int32_t res_blocks;                   /* residual blocks a level of the encoder; the decoder has one more */
    int32_t temporal[NV_VAE_MOST_LEVELS]; /* "temperal_downsample": level i halves the frames too */
    float mean[NV_VAE_MOST_Z], std[NV_VAE_MOST_Z]; /* latents are kept as (z - mean) / std */
} nv_vae_config;

/* Latent pixels are 2^(levels - 1) pixels a side; latent frames after the first are `time` frames. */
static inline int32_t nv_vae_space_factor(const nv_vae_config *c) {
    return 1 << (c->levels - 1);
}

static inline int32_t nv_vae_time_factor(const nv_vae_config *c) {
    int32_t factor = 1;
    for (int32_t i = 0; i + 1 < c->levels; i++)
        factor *= c->temporal[i] ? 2 : 1;
    return factor;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Wan2.1 VAE: latents to frames and back, frame by frame. All convolutions in time look backwards only, so a frame
 * goes through every layer before the next begins; what a layer must remember is two frames of its own input. The first
 * latent frame is one frame, each further one is nv_vae_time_factor() of them.
 */
#ifndef NV_VAE_H
#define NV_VAE_H

#include "device/device.h"
#include "vae/vae_config.h"
#include "weights/set.h"

typedef struct nv_vae nv_vae;

enum { NV_VAE_DECODER = 1, NV_VAE_ENCODER = 2 };

/* Sizes from the shapes of the tensors, of either layout; mean and std are Wan2.1's constants, so z_dim must be 16. */
nabla_status nv_vae_config_from(const nv_weights *file, nv_vae_config *out, nv_error *err);

/* Reads the weights of the named parts (an or of the two), of diffusers' names or the original's. Every tensor of the
   file must be one that such a VAE has. compute: of the convolutions' inputs and weights; all else is fp32. */
nabla_status nv_vae_create(nv_device *device, const nv_vae_config *config, nabla_dtype compute, int parts,
                           const nv_weights *file, nv_vae **out, nv_error *err);
void nv_vae_destroy(nv_vae *vae); /* NULL is fine */
const nv_vae_config *nv_vae_get_config(const nv_vae *vae);

/* A frame that is done, in order: planes [3, height, width] in [-1, 1], valid during the call. */
typedef nabla_status (*nv_vae_frame)(void *user, int32_t frame, const float *planes, nv_error *err);
/* Asked before every layer; non-zero stops with NABLA_CANCELLED. */
typedef int (*nv_vae_stop)(void *user);

typedef struct nv_vae_decode_options {
    int32_t frames, height, width; /* of the latent */
    int32_t tile; /* side of a tile in pixels, every 3/4 of it one, blended where they overlap; 0: none. With tiles all
                     frames come at the end, while the last tile is decoded */
    nv_vae_stop stop; /* may be NULL */
    /* May be NULL: frames done of a total; with tiles, of all tiles together. */
    void (*progress)(void *user, int64_t done, int64_t total);
    void *user; /* of the three callbacks */
} nv_vae_decode_options;

static inline int32_t nv_vae_frames(const nv_vae_config *c, int32_t latent_frames) {
    return 1 + (latent_frames - 1) * nv_vae_time_factor(c);
}

/* Bytes that a decode takes beside the weights. Also checks the options. */
nabla_status nv_vae_decode_memory(nv_vae *vae, const nv_vae_decode_options *o, size_t *bytes, nv_error *err);
/* The same, and the decoder's weights, without making it. */
nabla_status nv_vae_estimate(nv_device *device, const nv_vae_config *config, nabla_dtype compute,
                             const nv_vae_decode_options *o, size_t *weights, size_t *decoding, nv_error *err);
/* latent [z_dim, frames, height, width] in the host's memory, normalised. */
nabla_status nv_vae_decode(nv_vae *vae, const nv_vae_decode_options *o, const float *latent, nv_vae_frame give,
                           nv_error *err);

/* video [3, frames, height, width] in [-1, 1] -> the mean of its latent, normalised, [z_dim, F, h, w]. frames must be
   1 + a multiple of nv_vae_time_factor(), the sides multiples of nv_vae_space_factor(). */
nabla_status nv_vae_encode(nv_vae *vae, const float *video, int32_t frames, int32_t height, int32_t width,
                           float *latent, nv_error *err);

#endif

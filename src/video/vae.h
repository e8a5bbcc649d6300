/* SPDX-License-Identifier: Apache-2.0 */
/* Where a model keeps its VAE. */
#ifndef NV_VIDEO_VAE_H
#define NV_VIDEO_VAE_H

#include "vae/vae.h"
#include "video/files.h"

typedef struct nv_vae_place {
    char config[NV_PATH_SIZE]; /* "": sizes come from the tensors' shapes */
    char weights[NV_PATH_SIZE];
} nv_vae_place;

/* model: a diffusers folder (vae/config.json), an original one (Wan2.1_VAE.pth), the VAE's own folder, or a
   file of its weights. Says what is missing, or that the model is of a kind without a VAE. */
nabla_status nv_vae_find(const char *model, nv_vae_place *out, nv_error *err);
/* The weights' file, open, and what they are. */
nabla_status nv_vae_open(const nv_vae_place *place, nv_vae_config *config, nv_weights **file, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Where a model keeps its VAE. */
#ifndef NV_VIDEO_VAE_H
#define NV_VIDEO_VAE_H

#include "vae/vae.h"
#include "video/wan_folder.h"

/* model: a folder of either layout, the VAE's own folder, or a file of its weights; fills in vae and vae_config. Says
   what is missing, or that the model is of a kind without a VAE; flag: the command line's, that named it. */
nabla_status nv_vae_find(const char *model, const char *flag, nv_wan_parts *out, nv_error *err);
/* The weights' file, open, and what they are: by the configuration, else by the shapes of the tensors. */
nabla_status nv_vae_open(const nv_wan_parts *parts, nv_vae_config *config, nv_weights **file, nv_error *err);

#endif

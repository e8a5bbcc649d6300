/* SPDX-License-Identifier: Apache-2.0 */
/* Model configuration files: strict JSON (jansson) read into plain values, with errors that name file and key. */
#ifndef NV_CONFIG_H
#define NV_CONFIG_H

#include "dit/dit_config.h"
#include "tensor/error.h"
#include "vae/vae_config.h"

/* A transformer's config.json, in diffusers' spelling of WanTransformer3DModel (dit_config.h names the keys) or in the
   original code's of WanModel (dim, num_heads, in_dim ...). Keys that begin with '_' are ignored, other unknown ones
   are errors. Image-to-video, VACE and Wan2.2 5B models are NABLA_UNSUPPORTED. Written in diffusers' spelling. */
nabla_status nv_config_read_dit(const char *path, nv_dit_config *out, nv_error *err);
nabla_status nv_config_parse_dit(const char *text, size_t size, const char *name, nv_dit_config *out, nv_error *err);
nabla_status nv_config_write_dit(const char *path, const nv_dit_config *config, nv_error *err);

/* DIR/vae/config.json, AutoencoderKLWan in diffusers' spelling (vae_config.h names the keys). Wan2.2's is
   NABLA_UNSUPPORTED. */
nabla_status nv_config_read_vae(const char *path, nv_vae_config *out, nv_error *err);
nabla_status nv_config_parse_vae(const char *text, size_t size, const char *name, nv_vae_config *out, nv_error *err);

/* DIR/model_index.json: what the folder as a whole is and how it wants to be used. Of other kinds than ours only `kind`
   is read and everything else is zero: their files list components, which are no business of this one. */
#define NV_KIND_CLIP "NablaClipPipeline"

typedef struct nv_model_index {
    char kind[32]; /* "_class_name": NV_KIND_CLIP for ours, "WanPipeline" for Wan's */
    int32_t width, height, frames, fps;
    char policy[96];     /* the policy the model was tuned for; "" none */
    char prediction[16]; /* "velocity" or "sample" (the clean clip) */
    float shift, guidance;
    int32_t steps;
    char solver[16];
    int32_t position_grid; /* tokens a side that RoPE positions are scaled to span; 0 (also when absent): unscaled */
} nv_model_index;
nabla_status nv_config_read_index(const char *path, nv_model_index *out, nv_error *err);
nabla_status nv_config_parse_index(const char *text, size_t size, const char *name, nv_model_index *out, nv_error *err);
nabla_status nv_config_write_index(const char *path, const nv_model_index *index, nv_error *err);

#endif

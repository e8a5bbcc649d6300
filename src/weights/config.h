/* SPDX-License-Identifier: Apache-2.0 */
/* Model configuration files: strict JSON (jansson) read into plain values, with errors that name file and key. */
#ifndef NV_CONFIG_H
#define NV_CONFIG_H

#include "dit/dit_config.h"
#include "tensor/error.h"

/* DIR/transformer/config.json in diffusers' spelling of WanTransformer3DModel, plus our own keys (dit_config.h). */
nabla_status nv_config_read_dit(const char *path, nv_dit_config *out, nv_error *err);
nabla_status nv_config_parse_dit(const char *text, size_t size, const char *name, nv_dit_config *out, nv_error *err);
nabla_status nv_config_write_dit(const char *path, const nv_dit_config *config, nv_error *err);

/* DIR/model_index.json: what the folder as a whole is and how it wants to be used. */
typedef struct nv_model_index {
    char kind[32]; /* "_class_name": "NablaClipPipeline" for ours, "WanPipeline" for Wan's */
    int32_t width, height, frames, fps;
    char policy[96];       /* the policy the model was tuned for; "" none */
    char prediction[16];   /* "velocity" or "sample" (the clean clip) */
    int32_t position_grid; /* tokens a side that positions are scaled to (nv_dit_shape.rope_scale); 0: unscaled */
    float shift, guidance;
    int32_t steps;
    char solver[16];
} nv_model_index;
nabla_status nv_config_read_index(const char *path, nv_model_index *out, nv_error *err);
nabla_status nv_config_parse_index(const char *text, size_t size, const char *name, nv_model_index *out, nv_error *err);
nabla_status nv_config_write_index(const char *path, const nv_model_index *index, nv_error *err);

#endif

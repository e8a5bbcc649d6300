/* SPDX-License-Identifier: Apache-2.0 */
/* A latent as the sampler leaves it, in a file: tensor `latent` fp32 [channels, frames, height, width], and in the
   metadata what the video that is made of it should say. */
#ifndef NV_LATENT_FILE_H
#define NV_LATENT_FILE_H

#include "weights/safetensors.h"

enum { NV_LATENT_TEXT = 2048 };

typedef struct nv_latent {
    int32_t shape[4];
    float *values;                /* [shape], the reader's to free */
    char prompt[NV_LATENT_TEXT];  /* "" where the file does not say; cut to fit */
    char comment[NV_LATENT_TEXT]; /* the settings */
    int32_t fps;                  /* 0 where it does not say */
} nv_latent;

nabla_status nv_latent_write(const char *path, const nv_latent *latent, nv_error *err);
/* Values that are no numbers are refused. On failure there is nothing to free. */
nabla_status nv_latent_read(const char *path, nv_latent *out, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Wan2.1's latents as small pictures, without the VAE: a linear map of the channels, good enough to see what a clip
   will show while it is sampled. */
#ifndef NV_LATENT_RGB_H
#define NV_LATENT_RGB_H

#include "dit/dit.h"

enum { NV_LATENT_RGB_CHANNELS = 16 };

/* latent [16, frames, height, width], as the sampler has it -> rgb [height, width, 3] of one of its frames. */
void nv_latent_rgb(const nv_dit_shape *shape, const float *latent, int32_t frame, uint8_t *rgb);

#endif

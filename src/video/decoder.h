/* SPDX-License-Identifier: Apache-2.0 */
/* A Wan model's VAE at work: opened (files mapped), planned (whole frames, or tiles where memory asks for them), loaded
   and run. */
#ifndef NV_DECODER_H
#define NV_DECODER_H

#include "nabla/video.h"
#include "video/vae.h"

typedef struct nv_decoder {
    nv_device *device; /* the caller's, as the next */
    const nabla_video_machine *machine;
    const char *path; /* the weights', in `parts` */
    nabla_dtype compute;
    nv_weights *file;
    nv_vae_config config;
    nv_vae *vae; /* NULL until loaded */
    nv_vae_decode_options options;
    size_t weights, decoding; /* bytes, once planned */
    int64_t done, total;
} nv_decoder;

/* On failure it is closed already. `parts` must outlive it. */
nabla_status nv_decoder_open(const nv_wan_parts *parts, nv_device *device, const nabla_video_machine *machine,
                             nabla_dtype compute, nv_decoder *d, nv_error *err);
/* For a latent [z_dim, frames, height, width], and `more` bytes beside it. tile 0: the whole frame where that fits;
   else tiles, which cost time and a blended seam: the warning ("" if none) says so. */
nabla_status nv_decoder_plan(nv_decoder *d, int32_t frames, int32_t height, int32_t width, int32_t tile, size_t more,
                             char *warning, size_t size, nv_error *err);
nabla_status nv_decoder_load(nv_decoder *d, nv_error *err);
/* The machine's progress is told of phase "decode". */
nabla_status nv_decoder_run(nv_decoder *d, const float *latent, nv_vae_frame give, void *user, nv_error *err);
void nv_decoder_close(nv_decoder *d); /* an all-zero one is fine */

#endif

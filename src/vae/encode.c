/* SPDX-License-Identifier: Apache-2.0 */
/* Frames to latents. */
#include <math.h>
#include <stdlib.h>

#include "vae/layers.h"

typedef struct encoding {
    nv_vae *vae;
    nv_vae_run run;
    float *latent;
    int32_t frame, frames; /* latent frames: that comes next, all */
    float *mixed, *rows;   /* device and host: a latent frame's mean and variance */
} encoding;

static nabla_status deliver(void *user, float *y, nv_error *err) {
    encoding *e = user;
    nv_device *dev = e->vae->device;
    const nv_vae_config *c = &e->vae->config;
    const size_t area = (size_t)e->run.out_height * (size_t)e->run.out_width, both = 2 * (size_t)c->z_dim;
    NV_TRY(nv_vae_linear_apply(e->vae, &e->vae->quant, y, (int64_t)area, e->mixed, err));
    NV_TRY(dev->ops->download(dev, e->rows, e->mixed, area * both * sizeof(float), err));
    for (size_t z = 0; z < (size_t)c->z_dim; z++)
        for (size_t i = 0; i < area; i++)
            e->latent[(z * (size_t)e->frames + (size_t)e->frame) * area + i] =
                (e->rows[i * both + z] - c->mean[z]) / c->std[z];
    e->frame++;
    return NABLA_OK;
}

static nabla_status encode_run(encoding *e, const float *video, int32_t frames, float *pixels, nv_error *err) {
    nv_device *dev = e->vae->device;
    const size_t area = (size_t)e->run.height * (size_t)e->run.width;
    e->run.deliver = deliver;
    e->run.user = e;
    for (int32_t f = 0; f < frames; f++) {
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < area; i++)
                pixels[i * 3 + c] = video[(c * (size_t)frames + (size_t)f) * area + i];
        dev->ops->upload(dev, e->run.x, pixels, 3 * area * sizeof *pixels);
        NV_TRY(nv_vae_run_frame(&e->run, err));
    }
    return NABLA_OK;
}

static nabla_status check(const nv_vae *vae, int32_t frames, int32_t height, int32_t width, nv_error *err) {
    const int32_t time = nv_vae_time_factor(&vae->config), space = nv_vae_space_factor(&vae->config);
    if (frames < 1 || (frames - 1) % time)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d frames: the VAE encodes 1 + a multiple of %d", frames, time);
    if (height < 1 || width < 1 || height % space || width % space)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "frames of %d x %d: the VAE encodes multiples of %d", width, height,
                       space);
    return NABLA_OK;
}

nabla_status nv_vae_encode(nv_vae *vae, const float *video, int32_t frames, int32_t height, int32_t width,
                           float *latent, nv_error *err) {
    nv_device *dev = vae->device;
    encoding e = {.vae = vae, .latent = latent};
    NV_TRY(check(vae, frames, height, width, err));
    e.frames = 1 + (frames - 1) / nv_vae_time_factor(&vae->config);
    NV_TRY(nv_vae_run_open(vae, &vae->encoder, height, width, 1, &e.run, err));
    const size_t bytes =
        2 * (size_t)vae->config.z_dim * (size_t)e.run.out_height * (size_t)e.run.out_width * sizeof(float);
    float *pixels = malloc(3 * (size_t)height * (size_t)width * sizeof *pixels);
    nabla_status status = dev->ops->allocate(dev, bytes, (void **)&e.mixed, err);
    e.rows = malloc(bytes);
    if (!pixels || !e.rows) status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a frame");
    if (status == NABLA_OK) status = encode_run(&e, video, frames, pixels, err);
    dev->ops->release(dev, e.mixed);
    nv_vae_run_close(&e.run);
    free(e.rows);
    free(pixels);
    return status;
}

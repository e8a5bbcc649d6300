/* SPDX-License-Identifier: Apache-2.0 */
#include "video/decoder.h"

#include <stdio.h>

#include "video/profile.h"

enum { MEMORY_TILE = 256 /* pixels, where the whole frame does not fit; as diffusers' */ };

nabla_status nv_decoder_open(const nv_wan_parts *parts, nv_device *device, const nabla_video_machine *machine,
                             nabla_dtype compute, nv_decoder *d, nv_error *err) {
    *d = (nv_decoder){.device = device, .machine = machine, .path = parts->vae, .compute = compute};
    return nv_vae_open(parts, &d->config, &d->file, err);
}

nabla_status nv_decoder_plan(nv_decoder *d, int32_t frames, int32_t height, int32_t width, int32_t tile, size_t more,
                             char *warning, size_t size, nv_error *err) {
    nv_device_memory memory;
    nv_vae_decode_options *o = &d->options;
    d->device->ops->memory(d->device, &memory);
    const double available = memory.available;
    *o = (nv_vae_decode_options){.frames = frames, .height = height, .width = width, .tile = tile};
    NV_TRY(nv_vae_estimate(d->device, &d->config, d->compute, o, &d->weights, &d->decoding, err));
    if (tile || available == 0 || (double)d->weights + (double)d->decoding + (double)more <= available) return NABLA_OK;
    o->tile = MEMORY_TILE;
    if (nv_vae_estimate(d->device, &d->config, d->compute, o, &d->weights, &d->decoding, NULL) == NABLA_OK) {
        snprintf(warning, size, "whole frames do not fit the %.1f GB that are free: decoding in tiles of %d pixels",
                 available / 1e9, MEMORY_TILE);
        return NABLA_OK;
    }
    o->tile = 0;
    return nv_vae_estimate(d->device, &d->config, d->compute, o, &d->weights, &d->decoding, err);
}

nabla_status nv_decoder_load(nv_decoder *d, nv_error *err) {
    const nabla_video_part part = nv_profile_enter(d->machine, NABLA_PART_LOAD);
    const nabla_status status = nv_vae_create(d->device, &d->config, d->compute, NV_VAE_DECODER, d->file, &d->vae, err);
    nv_profile_enter(d->machine, part);
    return status == NABLA_OK ? status : nv_fail_in(err, "%s", d->path);
}

/* ------------------------------------------------------------------ running */

/* A run's callbacks share one user: the decoder, and where its frames go. */
typedef struct decoding {
    nv_decoder *d;
    nv_vae_frame give;
    void *user;
} decoding;

static void report_progress(void *user, int64_t done, int64_t total) {
    nv_decoder *d = ((decoding *)user)->d;
    d->done = done;
    d->total = total;
}

static int tell(const nv_decoder *d) {
    const nabla_video_machine *m = d->machine;
    return m->progress && m->progress(m->user, "decode", d->done, d->total, "");
}

static int stop(void *user) {
    return tell(((decoding *)user)->d);
}

static nabla_status give(void *user, int32_t frame, const float *planes, nv_error *err) {
    const decoding *r = user;
    return r->give(r->user, frame, planes, err);
}

nabla_status nv_decoder_run(nv_decoder *d, const float *latent, nv_vae_frame frames, void *user, nv_error *err) {
    decoding r = {.d = d, .give = frames, .user = user};
    nv_vae_decode_options o = d->options;
    o.stop = stop;
    o.progress = report_progress;
    o.user = &r;
    d->done = 0;
    d->total = nv_vae_frames(&d->config, o.frames);
    const nabla_video_part part = nv_profile_enter(d->machine, NABLA_PART_VAE);
    nv_profile_begin(d->machine, d->device);
    const nabla_status status = nv_vae_decode(d->vae, &o, latent, give, err);
    nv_profile_end(d->machine, d->device, d->compute);
    nv_profile_enter(d->machine, part);
    NV_TRY(status);
    tell(d); /* the end, which is too late to stop */
    return NABLA_OK;
}

void nv_decoder_close(nv_decoder *d) {
    nv_vae_destroy(d->vae);
    nv_weights_close(d->file);
    *d = (nv_decoder){0};
}

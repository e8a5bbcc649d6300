/* SPDX-License-Identifier: Apache-2.0 */
/* From a latent to a video file, frame by frame: each is written while later ones are decoded. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "media/media.h"
#include "tensor/memory.h"
#include "video/limits.h"
#include "video/machine.h"
#include "video/report.h"
#include "video/vae.h"

enum { WAN_FPS = 16, CRF = 18, MEMORY_TILE = 256 /* pixels, where the whole frame does not fit; as diffusers' */ };

typedef struct job {
    const nabla_decode_options *options;
    const nabla_video_machine *machine;
    nabla_decode_result *result;
    nv_device *device;
    nv_weights *weights;
    nv_st_file *latent_file;
    nv_vae_config config;
    nv_vae *vae;
    float *latent;
    nv_vae_decode_options decode;
    nv_media_options media;
    nv_media_writer *writer;
    uint8_t *rgb;
    float *frames; /* [3, T, H, W], for tensors out; NULL: video out */
    int64_t done, total;
} job;

nabla_decode_options nabla_decode_options_default(void) {
    return (nabla_decode_options){.size = sizeof(nabla_decode_options), .compute = NABLA_FP32, .crf = -1};
}

static int wants_tensors(const job *j) {
    const char *dot = strrchr(j->options->output, '.');
    return dot && strcasecmp(dot, ".safetensors") == 0;
}

/* ------------------------------------------------------------------ what comes in */

static nabla_status read_latent(job *j, nv_error *err) {
    const char *path = j->options->latent;
    NV_TRY(nv_st_open(path, &j->latent_file, err));
    const nv_st_entry *e = nv_st_find(j->latent_file, "latent");
    if (!e || e->dtype != NV_ST_F32 || e->rank != 4 || e->bytes == 0)
        return nv_fail(err, NABLA_CORRUPT, "%s must hold a tensor \"latent\" of fp32 [channels, frames, height, width]",
                       path);
    if (e->shape[0] != j->config.z_dim)
        return nv_fail(err, NABLA_CORRUPT,
                       "%s: the latent has %lld channels, the VAE's latents have %d: of another "
                       "model?",
                       path, (long long)e->shape[0], j->config.z_dim);
    for (int i = 1; i < 4; i++)
        if (e->shape[i] > NV_MOST_SIDE)
            return nv_fail(err, NABLA_CORRUPT, "%s: a latent of %lld frames of %lld x %lld is too large", path,
                           (long long)e->shape[1], (long long)e->shape[2], (long long)e->shape[3]);
    const size_t count = e->bytes / sizeof(float);
    j->latent = malloc(e->bytes);
    if (!j->latent) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a latent of %zu numbers", count);
    NV_TRY(nv_st_read_f32(e, j->latent, count, err));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(j->latent[i]))
            return nv_fail(err, NABLA_CORRUPT, "%s: the latent holds values that are no numbers, the first at %zu",
                           path, i);
    j->decode.frames = (int32_t)e->shape[1];
    j->decode.height = (int32_t)e->shape[2];
    j->decode.width = (int32_t)e->shape[3];
    return NABLA_OK;
}

/* All that can be refused before the weights are read. */
static nabla_status settle(job *j, nv_error *err) {
    const nabla_decode_options *o = j->options;
    nabla_decode_result *r = j->result;
    const int32_t factor = nv_vae_space_factor(&j->config);
    const int64_t frames = 1 + ((int64_t)j->decode.frames - 1) * nv_vae_time_factor(&j->config);
    if (frames > NV_MOST_FRAMES || (int64_t)j->decode.width * factor > NV_MOST_SIDE ||
        (int64_t)j->decode.height * factor > NV_MOST_SIDE)
        return nv_fail(err, NABLA_CORRUPT, "%s: a latent of %d frames of %d x %d is too large", o->latent,
                       j->decode.frames, j->decode.height, j->decode.width);
    r->width = j->decode.width * factor;
    r->height = j->decode.height * factor;
    r->frames = (int32_t)frames;
    r->fps = o->fps ? o->fps : WAN_FPS;
    j->media = (nv_media_options){.width = r->width, .height = r->height, .fps = r->fps, .frames = r->frames};
    j->media.crf = o->crf < 0 ? CRF : o->crf;
    j->media.comment = o->latent;
    return wants_tensors(j) ? NABLA_OK : nv_media_check(o->output, &j->media, err);
}

/* ------------------------------------------------------------------ memory */

static size_t output_bytes(const job *j) {
    const size_t numbers = 3 * (size_t)j->result->width * (size_t)j->result->height;
    return wants_tensors(j) ? numbers * (size_t)j->result->frames * sizeof(float) : numbers;
}

/* The whole frame where that fits; else tiles, which cost time and a blended seam. */
static nabla_status choose_tile(job *j, nv_error *err) {
    nv_device_memory memory;
    size_t bytes;
    j->device->ops->memory(j->device, &memory);
    const double available = memory.available;
    j->decode.tile = j->options->tile;
    NV_TRY(nv_vae_decode_memory(j->vae, &j->decode, &bytes, err));
    if (!j->decode.tile && available > 0 && (double)bytes + (double)output_bytes(j) > available) {
        j->decode.tile = MEMORY_TILE;
        if (nv_vae_decode_memory(j->vae, &j->decode, &bytes, NULL) != NABLA_OK) j->decode.tile = 0;
        if (j->decode.tile)
            snprintf(j->result->warning, sizeof j->result->warning,
                     "whole frames do not fit the %.1f GB that are free: decoding in tiles of %d pixels",
                     available / 1e9, MEMORY_TILE);
    }
    NV_TRY(nv_vae_decode_memory(j->vae, &j->decode, &bytes, err));
    j->result->tile = j->decode.tile;
    j->result->memory = (double)bytes + (double)output_bytes(j);
    return nv_memory_check(j->device, bytes + output_bytes(j), "decoding this latent",
                           "use tiles, or smaller ones (--tile 128)", err);
}

/* ------------------------------------------------------------------ frames on their way */

static void report_progress(void *user, int64_t done, int64_t total) {
    job *j = user;
    j->done = done;
    j->total = total;
}

static int stop(void *user) {
    job *j = user;
    return j->machine->progress && j->machine->progress(j->machine->user, "decode", j->done, j->total, "");
}

static nabla_status give(void *user, int32_t frame, const float *planes, nv_error *err) {
    job *j = user;
    const nabla_decode_result *r = j->result;
    const size_t area = (size_t)r->width * (size_t)r->height;
    const double start = nv_now();
    nabla_status status = NABLA_OK;
    for (size_t c = 0; c < 3 && j->frames; c++)
        memcpy(j->frames + (c * (size_t)r->frames + (size_t)frame) * area, planes + c * area, area * sizeof *planes);
    if (j->writer) {
        nv_media_to_rgb(planes, 1, r->height, r->width, 0, j->rgb);
        status = nv_media_frame(j->writer, j->rgb, err);
    }
    j->result->write_s += nv_now() - start;
    return status;
}

static nabla_status write_tensor(const job *j, nv_error *err) {
    const nabla_decode_result *r = j->result;
    nv_st_entry entry = {.name = "frames", .dtype = NV_ST_F32, .rank = 4, .data = j->frames};
    entry.shape[0] = 3;
    entry.shape[1] = r->frames;
    entry.shape[2] = r->height;
    entry.shape[3] = r->width;
    entry.bytes = output_bytes(j);
    return nv_st_write(j->options->output, &entry, 1, NULL, 0, err);
}

static nabla_status decode(job *j, nv_error *err) {
    const double start = nv_now();
    if (wants_tensors(j))
        j->frames = malloc(output_bytes(j));
    else
        j->rgb = malloc(output_bytes(j));
    if (!j->frames && !j->rgb) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the frames");
    if (j->rgb) NV_TRY(nv_media_open(j->options->output, &j->media, &j->writer, err));
    j->total = j->result->frames;
    NV_TRY(nv_vae_decode(j->vae, &j->decode, j->latent, give, err));
    if (j->machine->progress) j->machine->progress(j->machine->user, "decode", j->total, j->total, "");
    const double decoded = nv_now();
    j->result->decode_s = decoded - start - j->result->write_s;
    nabla_status status;
    if (j->frames) {
        status = write_tensor(j, err);
    } else {
        nv_media_writer *writer = j->writer;
        j->writer = NULL; /* finish frees it whatever happens */
        status = nv_media_finish(writer, err);
    }
    j->result->write_s += nv_now() - decoded;
    return status;
}

/* ------------------------------------------------------------------ the whole */

static nabla_status run(job *j, nv_error *err) {
    const nabla_decode_options *o = j->options;
    const double start = nv_now();
    nv_vae_place place;
    if (!o->model) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no model folder: say which model's VAE to use");
    if (!o->latent) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no latent: say which file to decode");
    if (!o->output) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no output: say which file to write");
    NV_TRY(nv_vae_find(o->model, &place, err));
    NV_TRY(nv_vae_open(&place, &j->config, &j->weights, err));
    NV_TRY(read_latent(j, err));
    NV_TRY(settle(j, err));
    NV_TRY(nv_machine_open(j->machine, &j->device, err));
    if (nv_vae_create(j->device, &j->config, o->compute, NV_VAE_DECODER, j->weights, &j->vae, err) != NABLA_OK)
        return nv_fail_in(err, "%s", place.weights);
    j->decode.stop = stop;
    j->decode.progress = report_progress;
    j->decode.user = j;
    NV_TRY(choose_tile(j, err));
    j->result->load_s = nv_now() - start;
    return decode(j, err);
}

nabla_status nabla_decode(const nabla_decode_options *options, const nabla_video_machine *machine,
                          nabla_decode_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_decode_result ignored = {.size = sizeof ignored};
    job j = {.options = options, .machine = machine ? machine : &defaults, .result = result ? result : &ignored};
    if (j.result->size != sizeof ignored) return nv_report_result_version(err, "nabla_decode_result");
    *j.result = ignored;
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_decode_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    const nabla_status status = run(&j, &inner);
    nv_media_abandon(j.writer);
    nv_vae_destroy(j.vae);
    nv_device_destroy(j.device);
    nv_weights_close(j.weights);
    if (j.latent_file) nv_st_close(j.latent_file);
    free(j.latent);
    free(j.rgb);
    free(j.frames);
    return nv_report(err, status, &inner);
}

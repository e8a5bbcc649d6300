/* SPDX-License-Identifier: Apache-2.0 */
#include "video/frames_out.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "device/device.h"
#include "media/behind.h"
#include "video/files.h"
#include "video/profile.h"
#include "weights/safetensors.h"

struct nv_frames_out {
    nv_media_options options;
    const nabla_video_machine *machine;
    char *path;
    nv_media_behind *writer; /* NULL: tensors */
    float *frames;           /* all, for the tensor; NULL: video */
    double seconds;
};

static int wants_tensor(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && strcasecmp(dot, ".safetensors") == 0;
}

nabla_status nv_frames_out_check(const char *path, const nv_media_options *options, nv_error *err) {
    return wants_tensor(path) ? NABLA_OK : nv_media_check(path, options, err);
}

static size_t tensor_bytes(const nv_media_options *o) {
    return 3 * (size_t)o->width * (size_t)o->height * (size_t)o->frames * sizeof(float);
}

static size_t held_bytes(const char *path, const nv_media_options *o) {
    if (wants_tensor(path)) return tensor_bytes(o);
    return 3 * (size_t)o->width * (size_t)o->height * NV_BEHIND_FRAMES + nv_media_memory(path, o);
}

static int lies_apart(const nv_device *device) {
    return strcmp(device->kind, "cuda") == 0;
}

size_t nv_frames_out_memory(const char *path, const nv_media_options *o, const nv_device *device) {
    return lies_apart(device) ? 0 : held_bytes(path, o);
}

nabla_status nv_frames_out_room(const char *path, const nv_media_options *o, const nv_device *device, nv_error *err) {
    if (!lies_apart(device)) return NABLA_OK;
    return nv_memory_check(NULL, held_bytes(path, o), "what writes the frames", "choose a smaller clip", err);
}

nabla_status nv_frames_out_open(const char *path, const nv_media_options *options, const nabla_video_machine *machine,
                                nv_frames_out **out, nv_error *err) {
    const size_t bytes = tensor_bytes(options);
    nv_frames_out *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the frames");
    *f = (nv_frames_out){.options = *options, .machine = machine, .path = strdup(path)};
    if (wants_tensor(path)) f->frames = malloc(bytes);
    nabla_status status = NABLA_OK;
    if (!f->path || (wants_tensor(path) && !f->frames))
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes of frames", bytes);
    if (status == NABLA_OK && !f->frames) status = nv_media_behind_open(path, options, &f->writer, err);
    if (status != NABLA_OK) {
        nv_frames_out_abandon(f);
        return status;
    }
    *out = f;
    return NABLA_OK;
}

nabla_status nv_frames_out_give(void *out, int32_t frame, const float *planes, nv_error *err) {
    nv_frames_out *f = out;
    const nv_media_options *o = &f->options;
    const size_t area = (size_t)o->width * (size_t)o->height;
    const double start = nv_now();
    const nabla_video_part part = nv_profile_enter(f->machine, NABLA_PART_MEDIA);
    nabla_status status = NABLA_OK;
    for (size_t c = 0; c < 3 && f->frames; c++)
        memcpy(f->frames + (c * (size_t)o->frames + (size_t)frame) * area, planes + c * area, area * sizeof *planes);
    if (f->writer) {
        uint8_t *rgb;
        status = nv_media_behind_room(f->writer, &rgb, err);
        if (status == NABLA_OK) {
            nv_media_to_rgb(planes, 1, o->height, o->width, 0, rgb);
            status = nv_media_behind_give(f->writer, err);
        }
    }
    nv_profile_enter(f->machine, part);
    f->seconds += nv_now() - start;
    return status;
}

static nabla_status write_tensor(const nv_frames_out *f, nv_error *err) {
    const nv_media_options *o = &f->options;
    const nv_st_entry entry = {.name = "frames",
                               .dtype = NV_ST_F32,
                               .rank = 4,
                               .shape = {3, o->frames, o->height, o->width},
                               .bytes = tensor_bytes(o),
                               .data = f->frames};
    return nv_st_write(f->path, &entry, 1, NULL, 0, err);
}

nabla_status nv_frames_out_finish(nv_frames_out *f, double *seconds, nv_error *err) {
    const double start = nv_now();
    const nabla_video_part part = nv_profile_enter(f->machine, NABLA_PART_MEDIA);
    nv_media_behind *writer = f->writer;
    f->writer = NULL; /* finish frees it whatever happens */
    const nabla_status status = writer ? nv_media_behind_finish(writer, err) : write_tensor(f, err);
    nv_profile_enter(f->machine, part);
    if (seconds) *seconds += f->seconds + nv_now() - start;
    nv_frames_out_abandon(f);
    return status;
}

void nv_frames_out_abandon(nv_frames_out *f) {
    if (!f) return;
    nv_media_behind_abandon(f->writer);
    free(f->frames);
    free(f->path);
    free(f);
}

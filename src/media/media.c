/* SPDX-License-Identifier: Apache-2.0 */
#include "media/media.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/writer.h"

enum { MOST_SIDE = 16384, MOST_FPS = 240, MOST_CRF = 51 };

static nabla_status kind_of(const char *path, const nv_media_kind **kind, nv_error *err) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    *kind = NULL;
    if (!*path) return nv_fail(err, NABLA_INVALID_ARGUMENT, "the output's name is empty");
    if (!*name || !dot || dot == name || !strcmp(name, ".."))
        *kind = &nv_media_folder;
    else if (!strcasecmp(dot, ".mp4"))
        *kind = &nv_media_mp4;
    else if (!strcasecmp(dot, ".gif"))
        *kind = &nv_media_gif;
    else if (!strcasecmp(dot, ".png"))
        *kind = &nv_media_png;
    else
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%s: unknown kind of output '%s'; choose .mp4, .gif, .png or a folder (a name that ends in '/')",
                       path, dot);
    return NABLA_OK;
}

/* The folder that the output will lie in must be there and take files. */
static nabla_status check_parent(const char *path, nv_error *err) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    char *parent = n ? strndup(path, n) : strdup(".");
    if (!parent) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", path);
    struct stat info;
    nabla_status status = NABLA_OK;
    if (stat(parent, &info) != 0)
        status = nv_fail(err, NABLA_IO, "cannot write %s: its folder: %s", path, strerror(errno));
    else if (!S_ISDIR(info.st_mode))
        status = nv_fail(err, NABLA_IO, "cannot write %s: %s is not a folder", path, parent);
    else if (access(parent, W_OK | X_OK) != 0)
        status = nv_fail(err, NABLA_IO, "cannot write %s: its folder: %s", path, strerror(errno));
    free(parent);
    return status;
}

static nabla_status choose(const char *path, const nv_media_options *o, const nv_media_kind **kind, nv_error *err) {
    NV_TRY(kind_of(path, kind, err));
    if (o->width < 1 || o->height < 1 || o->width > MOST_SIDE || o->height > MOST_SIDE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: frames of %d x %d pixels: choose sides from 1 to %d", path,
                       o->width, o->height, MOST_SIDE);
    if (o->fps < 1 || o->fps > MOST_FPS)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: %d frames a second: choose 1 to %d", path, o->fps, MOST_FPS);
    if (o->crf < 0 || o->crf > MOST_CRF)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: crf %d: choose 0 to %d", path, o->crf, MOST_CRF);
    NV_TRY(check_parent(path, err));
    return (*kind)->check(path, o, err);
}

nabla_status nv_media_check(const char *path, const nv_media_options *options, nv_error *err) {
    const nv_media_kind *kind;
    return choose(path, options, &kind, err);
}

size_t nv_media_memory(const char *path, const nv_media_options *options) {
    const nv_media_kind *kind;
    return kind_of(path, &kind, NULL) == NABLA_OK && kind->memory ? kind->memory(options) : 0;
}

static void free_writer(nv_media_writer *w) {
    w->kind->abandon(w);
    free(w->path);
    free(w);
}

nabla_status nv_media_open(const char *path, const nv_media_options *options, nv_media_writer **out, nv_error *err) {
    const nv_media_kind *kind;
    *out = NULL;
    NV_TRY(choose(path, options, &kind, err));
    nv_media_writer *w = calloc(1, kind->size);
    char *copy = strdup(path);
    if (!w || !copy) {
        free(w);
        free(copy);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", path);
    }
    *w = (nv_media_writer){.kind = kind, .options = *options, .path = copy};
    nabla_status status = kind->open(w, err);
    if (status != NABLA_OK) {
        free_writer(w);
        return status;
    }
    *out = w;
    return NABLA_OK;
}

nabla_status nv_media_frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err) {
    NV_TRY(w->kind->frame(w, rgb, err));
    w->count++;
    return NABLA_OK;
}

nabla_status nv_media_finish(nv_media_writer *w, nv_error *err) {
    nabla_status status =
        w->count > 0 ? w->kind->finish(w, err) : nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: no frame to write", w->path);
    free_writer(w);
    return status;
}

void nv_media_abandon(nv_media_writer *w) {
    if (w) free_writer(w);
}

void nv_media_to_rgb(const float *video, int32_t frames, int32_t height, int32_t width, int32_t frame, uint8_t *rgb) {
    size_t area = (size_t)height * (size_t)width, plane = area * (size_t)frames;
    const float *from = video + (size_t)frame * area;
    for (size_t i = 0; i < area; i++) {
        for (size_t c = 0; c < 3; c++) {
            float v = from[c * plane + i] * 127.5f + 128.0f; /* rounds to nearest */
            rgb[i * 3 + c] = v > 0.0f ? v < 255.0f ? (uint8_t)v : 255 : 0;
        }
    }
}

static nabla_status put_frames(nv_media_writer *w, const float *video, uint8_t *rgb, nv_error *err) {
    const nv_media_options *o = &w->options;
    for (int32_t f = 0; f < o->frames; f++) {
        nv_media_to_rgb(video, o->frames, o->height, o->width, f, rgb);
        NV_TRY(nv_media_frame(w, rgb, err));
    }
    return NABLA_OK;
}

nabla_status nv_media_write(const char *path, const nv_media_options *options, const float *video, nv_error *err) {
    nv_media_writer *w;
    NV_TRY(nv_media_open(path, options, &w, err));
    uint8_t *rgb = malloc(3 * (size_t)options->height * (size_t)options->width);
    nabla_status status =
        rgb ? put_frames(w, video, rgb, err) : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", path);
    free(rgb);
    if (status == NABLA_OK) return nv_media_finish(w, err);
    nv_media_abandon(w);
    return status;
}

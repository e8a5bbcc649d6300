/* SPDX-License-Identifier: Apache-2.0 */
/* Video and images out (and in, for `train --data`), through FFmpeg's libraries; only media.c includes them. */
#ifndef NV_MEDIA_H
#define NV_MEDIA_H

#include "tensor/error.h"

typedef struct nv_media_options {
    int32_t width, height, fps;
    int32_t crf;         /* H.264 quality, 0 to 51; default 18 */
    const char *title;   /* metadata: the prompt ... */
    const char *comment; /* ... and the settings with the seed */
} nv_media_options;

/* 1 if this build has FFmpeg. */
int nv_media_available(void);

/* One of .mp4 (H.264, yuv420p; odd sizes are an error that says so), .gif (palette made for the clip), or a folder
   of frame-0001.png ... (path without extension or ending in '/'; .png alone writes one image). Unknown extensions
   are NABLA_INVALID_ARGUMENT, checked before any work by nv_media_check. Frames come one by one; nothing exists under
   the final name until nv_media_finish renames it. */
typedef struct nv_media_writer nv_media_writer;
nabla_status nv_media_check(const char *path, const nv_media_options *options, nv_error *err);
nabla_status nv_media_open(const char *path, const nv_media_options *options, nv_media_writer **out, nv_error *err);
nabla_status nv_media_frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err); /* [height, width, 3] */
nabla_status nv_media_finish(nv_media_writer *w, nv_error *err);                    /* frees w whatever happens */
void nv_media_abandon(nv_media_writer *w);                                          /* removes the unfinished file */

/* One PNG, written to a temporary name first. Works without FFmpeg too (stored or zlib-free deflate blocks), so that
   masks can always be drawn. */
nabla_status nv_png_write(const char *path, const uint8_t *rgb, int32_t width, int32_t height, nv_error *err);

/* [3, frames, height, width] fp32 in [-1, 1] -> one frame's RGB. */
void nv_media_to_rgb(const float *video, int32_t frames, int32_t height, int32_t width, int32_t frame, uint8_t *rgb);

#endif

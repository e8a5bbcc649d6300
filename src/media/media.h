/* SPDX-License-Identifier: Apache-2.0 */
/* Video and images out; read.h reads them. FFmpeg's libraries make MP4 and GIF; PNG is written without them. */
#ifndef NV_MEDIA_H
#define NV_MEDIA_H

#include "tensor/error.h"

typedef struct nv_media_options {
    int32_t width, height, fps;
    int32_t crf;         /* H.264 quality, 0 (lossless, which few players open) to 51; 18 looks flawless */
    int32_t frames;      /* that will come; chooses the one that a single .png shows (0: the first) */
    const char *title;   /* metadata of .mp4 and .png: the prompt ... */
    const char *comment; /* ... and the settings with the seed. Either may be NULL */
} nv_media_options;

/* 1 if this build has FFmpeg. */
int nv_media_available(void);

/* The extension chooses:
   .mp4                       H.264, yuv420p, index in front; odd sizes are an error
   .gif                       endless, 255 colours chosen for the clip; keeps all frames in memory until the end
   .png                       one image: frame frames / 2
   none, or a '/' at the end  a folder of frame-0001.png ...; one that is there may hold nothing but such frames, which
                              are then replaced
   Anything else is NABLA_INVALID_ARGUMENT. nv_media_check finds what can be found before any work is done. Frames come
   one by one; nothing exists under the final name until nv_media_finish renames it. */
typedef struct nv_media_writer nv_media_writer;
nabla_status nv_media_check(const char *path, const nv_media_options *options, nv_error *err);
/* Bytes that a writer of such frames holds at most. */
size_t nv_media_memory(const char *path, const nv_media_options *options);
nabla_status nv_media_open(const char *path, const nv_media_options *options, nv_media_writer **out, nv_error *err);
nabla_status nv_media_frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err); /* [height, width, 3] */
nabla_status nv_media_finish(nv_media_writer *w, nv_error *err); /* frees w whatever happens; no frame is an error */
void nv_media_abandon(nv_media_writer *w);                       /* removes the unfinished file; NULL is fine */

/* One PNG, written to a temporary name first. Works without FFmpeg too. */
nabla_status nv_png_write(const char *path, const uint8_t *rgb, int32_t width, int32_t height, nv_error *err);

/* A whole clip, [3, frames, height, width] fp32 in [-1, 1], as options say. */
nabla_status nv_media_write(const char *path, const nv_media_options *options, const float *video, nv_error *err);

/* [3, frames, height, width] fp32 in [-1, 1] -> one frame's RGB. NaN becomes black. */
void nv_media_to_rgb(const float *video, int32_t frames, int32_t height, int32_t width, int32_t frame, uint8_t *rgb);

#endif

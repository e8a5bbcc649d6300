/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NV_FFMPEG_H
#define NV_FFMPEG_H

#include "tensor/error.h"

/* "PATH: cannot WHAT: FFmpeg's words for code". */
nabla_status nv_ffmpeg_fail(nv_error *err, const char *path, const char *what, int code);

/* FFmpeg prints to stderr unless told otherwise. Where an application has chosen a level, its choice stands. */
void nv_ffmpeg_quiet(void);

/* "file:PATH", the caller's to free: without it FFmpeg would take a name with a colon for a network address. */
char *nv_ffmpeg_url(const char *path);

#endif

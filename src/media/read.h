/* SPDX-License-Identifier: Apache-2.0 */
/* Video in: what `train --data DIR` decodes. */
#ifndef NV_MEDIA_READ_H
#define NV_MEDIA_READ_H

#include "tensor/error.h"

/* Decodes up to max_frames frames of anything that FFmpeg reads, or of a folder of frame-0001.png ..., scaled to cover
   width x height and cropped to the middle. *rgb: [*frames, height, width, 3], the caller frees it. A build without
   FFmpeg fails with NABLA_UNSUPPORTED. Safe to call from several threads. */
nabla_status nv_media_read(const char *path, int32_t width, int32_t height, int32_t max_frames, uint8_t **rgb,
                           int32_t *frames, nv_error *err);

#endif

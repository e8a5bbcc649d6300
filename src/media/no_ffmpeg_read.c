/* SPDX-License-Identifier: Apache-2.0 */
#include "media/read.h"

nabla_status nv_media_read(const char *path, int32_t width, int32_t height, int32_t max_frames, uint8_t **rgb,
                           int32_t *frames, nv_error *err) {
    (void)width;
    (void)height;
    (void)max_frames;
    (void)rgb;
    (void)frames;
    return nv_fail(err, NABLA_UNSUPPORTED, "%s: this build reads no videos; configure it with NABLA_FFMPEG=ON", path);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in for FFmpeg's part in a build without it. */
#include <stddef.h>

#include "media/read.h"
#include "media/writer.h"

int nv_media_available(void) {
    return 0;
}

static nabla_status check(const char *path, const nv_media_options *options, nv_error *err) {
    (void)options;
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "%s: this build writes no videos: configure it with NABLA_FFMPEG=ON, or write .png or a folder",
                   path);
}

/* check() fails first, so a writer of these kinds is never made. */
const nv_media_kind nv_media_mp4 = {sizeof(nv_media_writer), check, NULL, NULL, NULL, NULL, NULL};
const nv_media_kind nv_media_gif = {sizeof(nv_media_writer), check, NULL, NULL, NULL, NULL, NULL};

nabla_status nv_media_read(const char *path, int32_t width, int32_t height, int32_t max_frames, uint8_t **rgb,
                           int32_t *frames, nv_error *err) {
    (void)width;
    (void)height;
    (void)max_frames;
    *rgb = NULL;
    *frames = 0;
    return nv_fail(err, NABLA_UNSUPPORTED, "%s: this build reads no videos; configure it with NABLA_FFMPEG=ON", path);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "media/ffmpeg.h"

#include <libavutil/error.h>
#include <libavutil/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/media.h"

int nv_media_available(void) {
    return 1;
}

nabla_status nv_ffmpeg_fail(nv_error *err, const char *path, const char *what, int code) {
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    nabla_status status = NABLA_IO;
    if (code == AVERROR(ENOMEM)) status = NABLA_OUT_OF_MEMORY;
    if (code == AVERROR_INVALIDDATA) status = NABLA_CORRUPT;
    av_strerror(code, text, sizeof text);
    return nv_fail(err, status, "%s: cannot %s: %s", path, what, text);
}

void nv_ffmpeg_quiet(void) {
    if (av_log_get_level() == AV_LOG_INFO) av_log_set_level(AV_LOG_QUIET);
}

char *nv_ffmpeg_url(const char *path) {
    static const char protocol[] = "file:";
    size_t size = sizeof protocol + strlen(path);
    char *url = malloc(size);
    if (url) snprintf(url, size, "%s%s", protocol, path);
    return url;
}

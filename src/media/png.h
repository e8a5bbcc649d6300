/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NV_PNG_H
#define NV_PNG_H

#include "media/media.h"

/* nv_png_write with title and comment in the file, UTF-8, either may be NULL. */
nabla_status nv_png_write_titled(const char *path, const uint8_t *rgb, int32_t width, int32_t height, const char *title,
                                 const char *comment, nv_error *err);

#endif

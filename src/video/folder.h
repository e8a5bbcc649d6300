/* SPDX-License-Identifier: Apache-2.0 */
/* Training clips from a folder of videos. */
#ifndef NV_FOLDER_H
#define NV_FOLDER_H

#include "train/source.h"

/* Every file of the folder that has a .txt of the same name beside it: NAME.mp4 (or a folder NAME of
   frame-0001.png ...) and NAME.txt, its caption. All are
   decoded once, scaled to cover the clip's size and cropped to its middle, and kept in memory as 8-bit RGB; a clip is a
   run of `frames` frames from a random place of a random file. Shorter videos are an error that names the file. */
nabla_status nv_source_folder(const char *path, const nv_clip_size *clip, nv_source *out, nv_error *err);

#endif

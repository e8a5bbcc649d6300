/* SPDX-License-Identifier: Apache-2.0 */
/* What a kind of output does; media.c chooses one by the path. */
#ifndef NV_WRITER_H
#define NV_WRITER_H

#include "media/media.h"

/* A writer's own data begins with this. */
struct nv_media_writer {
    const struct nv_media_kind *kind;
    nv_media_options options; /* title and comment are the caller's and must outlive the writer */
    char *path;
    int32_t count; /* frames that came */
};

typedef struct nv_media_kind {
    size_t size; /* of the writer's data, zeroed before open */
    nabla_status (*check)(const char *path, const nv_media_options *options, nv_error *err);
    nabla_status (*open)(nv_media_writer *w, nv_error *err);
    nabla_status (*frame)(nv_media_writer *w, const uint8_t *rgb, nv_error *err);
    nabla_status (*finish)(nv_media_writer *w, nv_error *err);
    void (*abandon)(nv_media_writer *w); /* removes what is unfinished, frees what open took; also after finish */
    size_t (*memory)(const nv_media_options *options); /* as nv_media_memory; NULL: a frame or less */
} nv_media_kind;

extern const nv_media_kind nv_media_mp4, nv_media_gif, nv_media_png, nv_media_folder;

#endif

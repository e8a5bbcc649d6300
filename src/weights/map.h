/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file as read-only memory, its pages read as they are needed. */
#ifndef NV_MAP_H
#define NV_MAP_H

#include <stddef.h>

#include "tensor/error.h"

typedef struct nv_map {
    const void *data; /* NULL for an empty file */
    size_t size;
} nv_map;

/* Regular files alone; `kind` is what the file was expected to be, for the message ("a safetensors file"). The file
   must not be cut shorter by others while it is mapped. */
nabla_status nv_map_open(const char *path, const char *kind, nv_map *out, nv_error *err);
void nv_map_close(nv_map *map); /* an all-zero map is fine */
/* Tells that a part of it will be read soon: what is not in memory is fetched meanwhile. */
void nv_map_expect(const void *data, size_t size);
/* Tells that a part of it was read and is not needed soon: its whole pages leave this process, and come back from the
   file where they are read again. */
void nv_map_forget(const void *data, size_t size);

#endif

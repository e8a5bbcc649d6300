/* SPDX-License-Identifier: Apache-2.0 */
/* A small writer of zip archives of stored entries, for tests that want them wrong in one place. */
#ifndef NABLA_ZIP_BUILD_H
#define NABLA_ZIP_BUILD_H

#include <stddef.h>

typedef struct zip_item {
    const char *name;
    const void *data;
    size_t size;
    int method; /* 0: stored; others are only written down, the data stay as they are */
} zip_item;

/* *size bytes, for free(); zip64: with sizes, offsets and the end as above 4 GB. directory: where that begins. */
unsigned char *zip_build(const zip_item *items, size_t count, int zip64, size_t *size, size_t *directory);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zip archive whose entries are stored, not compressed, as PyTorch writes its checkpoints: where each entry's bytes
 * lie in memory. Nothing is ever inflated or copied, so that no archive can be larger than its file. A reader of our
 * own because it must find data in place in archives above 4 GB (zip64; the text encoder's file has 11.4), which
 * libzip does not tell and zziplib 0.13 does not read. APPNOTE.TXT 6.3.10, sections in comments.
 */
#ifndef NV_ZIP_H
#define NV_ZIP_H

#include <stddef.h>

#include "tensor/error.h"

typedef struct nv_zip_entry {
    const char *name; /* not NUL-terminated */
    size_t name_length;
    const void *data;
    size_t size;
    int stored; /* 0: compressed or encrypted; data and size are zero */
} nv_zip_entry;

typedef struct nv_zip {
    nv_zip_entry *entries; /* in order of name */
    size_t count;
} nv_zip;

/* `file` names it in messages; `data` must outlive the zip. Two entries of one name are an error. */
nabla_status nv_zip_open(const void *data, size_t size, const char *file, nv_zip *out, nv_error *err);
void nv_zip_close(nv_zip *zip);
const nv_zip_entry *nv_zip_find(const nv_zip *zip, const char *name, size_t name_length); /* NULL if there is none */

#endif

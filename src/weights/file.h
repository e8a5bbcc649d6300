/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files: small ones read at once, new ones written beside their final name and renamed when they are complete. */
#ifndef NV_FILE_H
#define NV_FILE_H

#include <stddef.h>

#include "tensor/error.h"

/* *text: *size bytes and a NUL after them, the caller's to free. Larger than limit bytes is NABLA_CORRUPT. */
nabla_status nv_file_read(const char *path, size_t limit, char **text, size_t *size, nv_error *err);

/* A file in the making, called path + ".tmp-<pid>". Nothing under path changes before nv_file_commit, which flushes
   to disk and renames. After a failed create or put, call nv_file_abandon; it removes the unfinished file. */
typedef struct nv_file_writer nv_file_writer;
nabla_status nv_file_create(const char *path, nv_file_writer **out, nv_error *err);
nabla_status nv_file_put(nv_file_writer *w, const void *data, size_t size, nv_error *err);
nabla_status nv_file_commit(nv_file_writer *w, nv_error *err); /* frees w whatever happens */
void nv_file_abandon(nv_file_writer *w);                       /* NULL is fine */

/* The three above for content that is already together. */
nabla_status nv_file_write(const char *path, const void *data, size_t size, nv_error *err);

#endif

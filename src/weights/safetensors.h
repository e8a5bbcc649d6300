/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors format: 8 bytes header length (little endian), a JSON header, the data. Reading maps the file;
   every offset, shape and dtype is checked before use, as strictly as the reference implementation does (the tensors
   cover the data area without hole or overlap). https://huggingface.co/docs/safetensors */
#ifndef NV_SAFETENSORS_H
#define NV_SAFETENSORS_H

#include "tensor/error.h"

typedef enum nv_st_dtype {
    NV_ST_F64,
    NV_ST_F32,
    NV_ST_F16,
    NV_ST_BF16,
    NV_ST_I64,
    NV_ST_I32,
    NV_ST_I16,
    NV_ST_I8,
    NV_ST_U8,
    NV_ST_BOOL,
    NV_ST_F8_E4M3,
    NV_ST_F8_E5M2,
    NV_ST_U16,
    NV_ST_U32,
    NV_ST_U64,
    NV_ST_DTYPES
} nv_st_dtype;

const char *nv_st_dtype_name(nv_st_dtype dtype); /* "F32" ... */
size_t nv_st_dtype_size(nv_st_dtype dtype);

#define NV_ST_MAX_RANK 8

typedef struct nv_st_entry {
    const char *name;
    nv_st_dtype dtype;
    int rank;
    int64_t shape[NV_ST_MAX_RANK];
    size_t bytes;
    const void *data; /* into the mapping when read, and there not always aligned to its dtype: copy (memcpy,
                         nv_st_read_f32) instead of casting. The caller's when written. */
} nv_st_entry;

/* ------------------------------------------------------------------ reading */
typedef struct nv_st_file nv_st_file;

/* The file must not be cut shorter by others while it is open: its pages are read as they are needed. */
nabla_status nv_st_open(const char *path, nv_st_file **out, nv_error *err);
/* The same over memory, which must outlive the file (fuzzing, embedded data). */
nabla_status nv_st_open_memory(const void *data, size_t size, const char *name, nv_st_file **out, nv_error *err);
void nv_st_close(nv_st_file *file);
size_t nv_st_count(const nv_st_file *file);
const nv_st_entry *nv_st_at(const nv_st_file *file, size_t i);           /* in order of offset */
const nv_st_entry *nv_st_find(const nv_st_file *file, const char *name); /* NULL if there is none */
const char *nv_st_metadata(const nv_st_file *file, const char *key);     /* NULL if there is none */
/* The keys of the metadata in the file's order: the one after `key`, the first after NULL; NULL at the end. */
const char *nv_st_metadata_key(const nv_st_file *file, const char *key);
/* Tells that a tensor was read and is not needed soon: the pages that it has to itself leave this process, and come
   back from the file where it is read again. Nothing for a file in the caller's memory. */
void nv_st_forget(const nv_st_file *file, const nv_st_entry *entry);
/* Copies a tensor as fp32 from F32, BF16, F16 or F64; `count` must be its element count. F64 is rounded to nearest,
   the others are exact. */
nabla_status nv_st_read_f32(const nv_st_entry *entry, float *out, size_t count, nv_error *err);

/* ------------------------------------------------------------------ writing */
/* Writes path + ".tmp-<pid>", flushes it to disk, renames: the old file stays whole until the new one is. Entries in
   any order; the file holds them by falling element size, then by name, so that all data are aligned. `bytes` must be
   what dtype and shape need. metadata: metadata_count pairs of key, value; may be NULL. */
nabla_status nv_st_write(const char *path, const nv_st_entry *entries, size_t count, const char *const *metadata,
                         size_t metadata_count, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/safetensors.h"

enum { HEADER_ALIGNMENT = 8 };

/* Falling element size, then name: every tensor is aligned to its elements without padding between them. */
static int compare_for_file(const void *a, const void *b) {
    const nv_st_entry *const *x = a, *const *y = b;
    size_t size_x = nv_st_dtype_size((*x)->dtype), size_y = nv_st_dtype_size((*y)->dtype);
    if (size_x != size_y) return size_x > size_y ? -1 : 1;
    return strcmp((*x)->name, (*y)->name);
}

static nabla_status check_entry(const nv_st_entry *e, const char *path, nv_error *err) {
    size_t bytes = nv_st_dtype_size(e->dtype);
    if (!e->name || strcmp(e->name, "__metadata__") == 0) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: a tensor cannot be named \"%s\"", path,
                       e->name ? e->name : "(null)");
    }
    if (bytes == 0 || e->rank < 0 || e->rank > NV_ST_MAX_RANK) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: tensor \"%s\" has dtype number %d and %d dimensions", path,
                       e->name, (int)e->dtype, e->rank);
    }
    for (int i = 0; i < e->rank; i++) {
        if (e->shape[i] < 0 || __builtin_mul_overflow(bytes, (size_t)e->shape[i], &bytes)) {
            return nv_fail(err, NABLA_OVERFLOW, "%s: tensor \"%s\" has a size of %lld, or too many elements", path,
                           e->name, (long long)e->shape[i]);
        }
    }
    if (bytes != e->bytes || (bytes > 0 && !e->data)) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: tensor \"%s\" needs %zu bytes by its shape, %zu were given",
                       path, e->name, bytes, e->data ? e->bytes : 0);
    }
    return NABLA_OK;
}

static nabla_status add_metadata(json_t *header, const char *const *metadata, size_t count, const char *path,
                                 nv_error *err) {
    if (count == 0) return NABLA_OK;
    json_t *object = json_object();
    int failed = json_object_set_new(header, "__metadata__", object);
    for (size_t i = 0; i < count && !failed; i++) {
        const char *key = metadata[2 * i];
        if (json_object_get(object, key)) {
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: the metadata \"%s\" is given twice", path, key);
        }
        failed = json_object_set_new(object, key, json_string(metadata[2 * i + 1]));
    }
    return failed ? nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: the metadata are not all UTF-8", path) : NABLA_OK;
}

static nabla_status add_entry(json_t *header, const nv_st_entry *e, uint64_t *offset, const char *path, nv_error *err) {
    if (json_object_get(header, e->name)) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: two tensors are named \"%s\"", path, e->name);
    }
    uint64_t end;
    if (__builtin_add_overflow(*offset, e->bytes, &end) || end > INT64_MAX) {
        return nv_fail(err, NABLA_OVERFLOW, "%s: its tensors have more bytes than a file can", path);
    }
    json_t *shape = json_array();
    for (int i = 0; i < e->rank; i++) {
        json_array_append_new(shape, json_integer(e->shape[i]));
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", nv_st_dtype_name(e->dtype), "shape", shape,
                              "data_offsets", (json_int_t)*offset, (json_int_t)end);
    if (json_object_set_new(header, e->name, entry) != 0) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: the tensor name \"%s\" is not UTF-8", path, e->name);
    }
    *offset = end;
    return NABLA_OK;
}

static nabla_status put_header(nv_file_writer *w, const json_t *header, nv_error *err) {
    char *text = json_dumps(header, JSON_COMPACT);
    if (!text) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a safetensors header");
    size_t length = strlen(text), padding = (0 - length) % HEADER_ALIGNMENT;
    uint64_t total = length + padding;
    nabla_status status = nv_file_put(w, &total, sizeof total, err);
    if (status == NABLA_OK) status = nv_file_put(w, text, length, err);
    if (status == NABLA_OK) status = nv_file_put(w, "        ", padding, err);
    free(text);
    return status;
}

static nabla_status put_all(const char *path, const json_t *header, const nv_st_entry **sorted, size_t count,
                            nv_error *err) {
    nv_file_writer *w;
    NV_TRY(nv_file_create(path, &w, err));
    nabla_status status = put_header(w, header, err);
    for (size_t i = 0; i < count && status == NABLA_OK; i++) {
        status = nv_file_put(w, sorted[i]->data, sorted[i]->bytes, err);
    }
    if (status == NABLA_OK) return nv_file_commit(w, err);
    nv_file_abandon(w);
    return status;
}

nabla_status nv_st_write(const char *path, const nv_st_entry *entries, size_t count, const char *const *metadata,
                         size_t metadata_count, nv_error *err) {
    for (size_t i = 0; i < count; i++) {
        NV_TRY(check_entry(&entries[i], path, err));
    }
    const nv_st_entry **sorted = calloc(count + 1, sizeof *sorted);
    json_t *header = json_object();
    if (!sorted || !header) {
        free(sorted);
        json_decref(header);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the header of %s", path);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &entries[i];
    }
    qsort(sorted, count, sizeof *sorted, compare_for_file);
    nabla_status status = add_metadata(header, metadata, metadata_count, path, err);
    uint64_t offset = 0;
    for (size_t i = 0; i < count && status == NABLA_OK; i++) {
        status = add_entry(header, sorted[i], &offset, path, err);
    }
    if (status == NABLA_OK) status = put_all(path, header, sorted, count, err);
    json_decref(header);
    free(sorted);
    return status;
}

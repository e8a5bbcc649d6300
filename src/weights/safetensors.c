/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data are little endian and mapped as they are");

enum { LENGTH_BYTES = 8, HEADER_LIMIT = 100000000 /* the reference implementation's */ };

static const struct {
    const char *name;
    size_t size;
} dtypes[NV_ST_DTYPES] = {
    [NV_ST_F64] = {"F64", 8},   [NV_ST_F32] = {"F32", 4},         [NV_ST_F16] = {"F16", 2},
    [NV_ST_BF16] = {"BF16", 2}, [NV_ST_I64] = {"I64", 8},         [NV_ST_I32] = {"I32", 4},
    [NV_ST_I16] = {"I16", 2},   [NV_ST_I8] = {"I8", 1},           [NV_ST_U8] = {"U8", 1},
    [NV_ST_BOOL] = {"BOOL", 1}, [NV_ST_F8_E4M3] = {"F8_E4M3", 1}, [NV_ST_F8_E5M2] = {"F8_E5M2", 1},
    [NV_ST_U16] = {"U16", 2},   [NV_ST_U32] = {"U32", 4},         [NV_ST_U64] = {"U64", 8},
};

const char *nv_st_dtype_name(nv_st_dtype dtype) {
    return (unsigned)dtype < NV_ST_DTYPES ? dtypes[dtype].name : "?";
}

size_t nv_st_dtype_size(nv_st_dtype dtype) {
    return (unsigned)dtype < NV_ST_DTYPES ? dtypes[dtype].size : 0;
}

struct nv_st_file {
    json_t *header; /* owns names and metadata */
    nv_st_entry *entries;
    const nv_st_entry **by_name;
    size_t count;
    void *mapping; /* NULL when the caller owns the memory */
    size_t mapping_size;
};

/* What a header is checked against, while it is. */
typedef struct source {
    const char *name; /* of the file, for messages */
    const unsigned char *data;
    size_t data_size; /* bytes after the header */
    nv_error *err;
} source;

static int compare_names(const void *a, const void *b) {
    const nv_st_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int compare_offsets(const void *a, const void *b) {
    const nv_st_entry *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty tensors sit before what follows them */
    return strcmp(x->name, y->name);
}

static nabla_status read_dtype(const source *in, const json_t *value, nv_st_entry *e) {
    const char *text = json_string_value(value);
    if (!text) return nv_fail(in->err, NABLA_CORRUPT, "%s: tensor \"%s\" has no dtype", in->name, e->name);
    for (int d = 0; d < NV_ST_DTYPES; d++) {
        if (strcmp(text, dtypes[d].name) == 0) {
            e->dtype = (nv_st_dtype)d;
            return NABLA_OK;
        }
    }
    return nv_fail(in->err, NABLA_UNSUPPORTED, "%s: tensor \"%s\" has the unknown dtype \"%s\"", in->name, e->name,
                   text);
}

/* Shape and, from it and the dtype, bytes. */
static nabla_status read_shape(const source *in, const json_t *value, nv_st_entry *e) {
    if (!json_is_array(value)) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: tensor \"%s\" has no shape", in->name, e->name);
    }
    size_t rank = json_array_size(value);
    if (rank > NV_ST_MAX_RANK) {
        return nv_fail(in->err, NABLA_UNSUPPORTED, "%s: tensor \"%s\" has %zu dimensions, at most %d are read",
                       in->name, e->name, rank, NV_ST_MAX_RANK);
    }
    e->rank = (int)rank;
    e->bytes = nv_st_dtype_size(e->dtype);
    for (size_t i = 0; i < rank; i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t size = json_integer_value(item);
        if (!json_is_integer(item) || size < 0) {
            return nv_fail(in->err, NABLA_CORRUPT,
                           "%s: the shape of tensor \"%s\" holds something other than whole numbers from 0 up",
                           in->name, e->name);
        }
        e->shape[i] = size;
        if (__builtin_mul_overflow(e->bytes, (size_t)size, &e->bytes)) {
            return nv_fail(in->err, NABLA_OVERFLOW, "%s: the shape of tensor \"%s\" has more elements than can be",
                           in->name, e->name);
        }
    }
    return NABLA_OK;
}

static nabla_status read_offsets(const source *in, const json_t *value, nv_st_entry *e) {
    const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last)) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: tensor \"%s\" has no data_offsets of two whole numbers", in->name,
                       e->name);
    }
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > in->data_size) {
        return nv_fail(in->err, NABLA_CORRUPT,
                       "%s: data_offsets [%lld, %lld] of tensor \"%s\" lie outside the file's %zu bytes of data",
                       in->name, (long long)begin, (long long)end, e->name, in->data_size);
    }
    if ((uint64_t)(end - begin) != e->bytes) {
        return nv_fail(in->err, NABLA_CORRUPT,
                       "%s: tensor \"%s\" needs %zu bytes by its dtype and shape but its data_offsets give %lld",
                       in->name, e->name, e->bytes, (long long)(end - begin));
    }
    e->data = in->data + begin;
    return NABLA_OK;
}

static nabla_status read_entry(const source *in, const char *name, json_t *value, nv_st_entry *e) {
    e->name = name;
    if (!json_is_object(value)) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: the header's entry \"%s\" describes no tensor", in->name, name);
    }
    const char *key;
    json_t *ignored;
    json_object_foreach(value, key, ignored) {
        if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0) {
            return nv_fail(in->err, NABLA_CORRUPT, "%s: tensor \"%s\" has the unknown property \"%s\"", in->name, name,
                           key);
        }
    }
    NV_TRY(read_dtype(in, json_object_get(value, "dtype"), e));
    NV_TRY(read_shape(in, json_object_get(value, "shape"), e));
    return read_offsets(in, json_object_get(value, "data_offsets"), e);
}

static nabla_status check_metadata(const source *in, json_t *metadata) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: __metadata__ is no object of strings", in->name);
    }
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value)) {
            return nv_fail(in->err, NABLA_CORRUPT, "%s: \"%s\" in __metadata__ is no string", in->name, key);
        }
    }
    return NABLA_OK;
}

/* Sorted by offset, every tensor must begin where the one before ended, and the last end with the file. */
static nabla_status check_cover(const source *in, const nv_st_file *f) {
    const unsigned char *at = in->data;
    for (size_t i = 0; i < f->count; i++) {
        const nv_st_entry *e = &f->entries[i];
        const unsigned char *begin = e->data;
        if (begin != at) {
            return nv_fail(in->err, NABLA_CORRUPT, "%s: tensor \"%s\" begins at %zu, but the data before it end at %zu",
                           in->name, e->name, (size_t)(begin - in->data), (size_t)(at - in->data));
        }
        at += e->bytes;
    }
    if (at != in->data + in->data_size) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: its tensors cover %zu of the %zu bytes of data", in->name,
                       (size_t)(at - in->data), in->data_size);
    }
    return NABLA_OK;
}

static nabla_status read_header(const source *in, nv_st_file *f) {
    size_t keys = json_object_size(f->header);
    f->entries = calloc(keys + 1, sizeof *f->entries);
    f->by_name = calloc(keys + 1, sizeof *f->by_name);
    if (!f->entries || !f->by_name) {
        return nv_fail(in->err, NABLA_OUT_OF_MEMORY, "%s: no memory for its list of %zu tensors", in->name, keys);
    }
    const char *name;
    json_t *value;
    json_object_foreach(f->header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            NV_TRY(check_metadata(in, value));
        } else {
            NV_TRY(read_entry(in, name, value, &f->entries[f->count++]));
        }
    }
    qsort(f->entries, f->count, sizeof *f->entries, compare_offsets);
    for (size_t i = 0; i < f->count; i++) {
        f->by_name[i] = &f->entries[i];
    }
    qsort(f->by_name, f->count, sizeof *f->by_name, compare_names);
    return check_cover(in, f);
}

/* The 8 bytes of length and the JSON after them; fills in->data and data_size. */
static nabla_status parse(source *in, const unsigned char *bytes, size_t size, nv_st_file *f) {
    if (size < LENGTH_BYTES) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s has %zu bytes, too few for a safetensors file", in->name, size);
    }
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    if (length > HEADER_LIMIT) {
        return nv_fail(in->err, NABLA_CORRUPT,
                       "%s: a header of %llu bytes is more than the format's %d: not a safetensors file?", in->name,
                       (unsigned long long)length, HEADER_LIMIT);
    }
    if (length > size - LENGTH_BYTES) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s is cut off: its header has %llu bytes, the file %zu", in->name,
                       (unsigned long long)length, size);
    }
    const char *text = (const char *)bytes + LENGTH_BYTES;
    if (length == 0 || text[0] != '{') {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: its header does not begin with '{': not a safetensors file?",
                       in->name);
    }
    json_error_t problem;
    f->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &problem);
    if (!f->header) {
        return nv_fail(in->err, NABLA_CORRUPT, "%s: its header is not valid JSON at byte %d: %s", in->name,
                       problem.position, problem.text);
    }
    in->data = bytes + LENGTH_BYTES + length;
    in->data_size = size - LENGTH_BYTES - (size_t)length;
    return read_header(in, f);
}

nabla_status nv_st_open_memory(const void *data, size_t size, const char *name, nv_st_file **out, nv_error *err) {
    *out = NULL;
    nv_st_file *f = calloc(1, sizeof *f);
    if (!f) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", name);
    source in = {.name = name, .err = err};
    nabla_status status = parse(&in, data, size, f);
    if (status != NABLA_OK) {
        nv_st_close(f);
        return status;
    }
    *out = f;
    return NABLA_OK;
}

static nabla_status map_file(const char *path, void **mapping, size_t *size, nv_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hang us */
    if (fd < 0) return nv_fail(err, NABLA_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat info;
    nabla_status status = NABLA_OK;
    if (fstat(fd, &info) != 0) {
        status = nv_fail(err, NABLA_IO, "cannot look at %s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = nv_fail(err, NABLA_IO, "%s is %s, not a safetensors file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a device");
    } else if (info.st_size < LENGTH_BYTES) {
        status = nv_fail(err, NABLA_CORRUPT, "%s has %lld bytes, too few for a safetensors file", path,
                         (long long)info.st_size);
    } else {
        *size = (size_t)info.st_size;
        *mapping = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (*mapping == MAP_FAILED) status = nv_fail(err, NABLA_IO, "cannot map %s: %s", path, strerror(errno));
    }
    close(fd);
    return status;
}

nabla_status nv_st_open(const char *path, nv_st_file **out, nv_error *err) {
    *out = NULL;
    void *mapping = NULL;
    size_t size = 0;
    NV_TRY(map_file(path, &mapping, &size, err));
    nabla_status status = nv_st_open_memory(mapping, size, path, out, err);
    if (status != NABLA_OK) {
        munmap(mapping, size);
        return status;
    }
    (*out)->mapping = mapping;
    (*out)->mapping_size = size;
    return NABLA_OK;
}

void nv_st_close(nv_st_file *file) {
    if (!file) return;
    if (file->mapping) munmap(file->mapping, file->mapping_size);
    json_decref(file->header);
    free(file->entries);
    free(file->by_name);
    free(file);
}

void nv_st_forget(const nv_st_file *file, const nv_st_entry *entry) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), data = (uintptr_t)entry->data;
    const uintptr_t first = (data + page - 1) / page * page, last = (data + entry->bytes) / page * page;
    if (!file->mapping || last <= first) return;
    madvise((void *)first, last - first, MADV_DONTNEED); /* advice: if it is refused nothing is lost */
}

size_t nv_st_count(const nv_st_file *file) {
    return file->count;
}

const nv_st_entry *nv_st_at(const nv_st_file *file, size_t i) {
    return i < file->count ? &file->entries[i] : NULL;
}

const nv_st_entry *nv_st_find(const nv_st_file *file, const char *name) {
    nv_st_entry wanted = {.name = name};
    const nv_st_entry *key = &wanted;
    const nv_st_entry **found = bsearch(&key, file->by_name, file->count, sizeof *file->by_name, compare_names);
    return found ? *found : NULL;
}

const char *nv_st_metadata_key(const nv_st_file *file, const char *key) {
    json_t *metadata = json_object_get(file->header, "__metadata__");
    void *at = key ? json_object_iter_next(metadata, json_object_iter_at(metadata, key)) : json_object_iter(metadata);
    return at ? json_object_iter_key(at) : NULL;
}

const char *nv_st_metadata(const nv_st_file *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/pth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/pickle.h"
#include "weights/zip.h"

enum { MAX_PICKLE = 1 << 22 /* that of a 14B transformer has 300 KB */, NAME_SIZE = 512 };

struct nv_pth_file {
    nv_st_entry *entries;
    int64_t (*strides)[NV_ST_MAX_RANK];
    char **names;
    size_t count;
};

/* An archive while it is opened. */
typedef struct source {
    const char *name;
    nv_zip zip;
    const char *folder; /* within the archive, with its slash */
    size_t folder_length;
    nv_error *err;
} source;

/* The entry folder + rest; *out NULL if there is none. */
static nabla_status find(const source *in, const char *rest, size_t rest_length, const nv_zip_entry **out) {
    char path[NAME_SIZE];
    *out = NULL;
    if (in->folder_length + rest_length > sizeof path) return NABLA_OK;
    memcpy(path, in->folder, in->folder_length);
    memcpy(path + in->folder_length, rest, rest_length);
    *out = nv_zip_find(&in->zip, path, in->folder_length + rest_length);
    if (*out && !(*out)->stored)
        return nv_fail(in->err, NABLA_UNSUPPORTED, "%s: entry \"%.*s\" is compressed; torch.save stores: save it again",
                       in->name, (int)(*out)->name_length, (*out)->name);
    return NABLA_OK;
}

/* FOLDER/data.pkl, where FOLDER is one name of any kind. */
static nabla_status find_pickle(source *in, const nv_zip_entry **out) {
    static const char pickle[] = "data.pkl";
    const size_t length = sizeof pickle - 1;
    *out = NULL;
    for (size_t i = 0; i < in->zip.count; i++) {
        const nv_zip_entry *e = &in->zip.entries[i];
        const char *slash = memchr(e->name, '/', e->name_length);
        const size_t folder = slash ? (size_t)(slash - e->name) + 1 : 0;
        if (folder == 0 || e->name_length - folder != length || memcmp(e->name + folder, pickle, length) != 0) continue;
        in->folder = e->name;
        in->folder_length = folder;
        NV_TRY(find(in, pickle, length, out));
        if (*out && (*out)->size <= MAX_PICKLE) return NABLA_OK;
        return nv_fail(in->err, NABLA_UNSUPPORTED, "%s: its data.pkl is larger than %d bytes or its name too long",
                       in->name, MAX_PICKLE);
    }
    return nv_fail(in->err, NABLA_CORRUPT, "%s is a zip archive without data.pkl: not a PyTorch checkpoint", in->name);
}

static nabla_status check_byte_order(const source *in) {
    static const char key[] = "byteorder";
    const nv_zip_entry *e;
    NV_TRY(find(in, key, sizeof key - 1, &e));
    if (!e || (e->size == 6 && memcmp(e->data, "little", 6) == 0)) return NABLA_OK;
    return nv_fail(in->err, NABLA_UNSUPPORTED, "%s was written by a big-endian machine", in->name);
}

/* ------------------------------------------------------------------ tensors */

static nabla_status find_storage(const source *in, const nv_pickle_tensor *t, const nv_zip_entry **out) {
    char rest[NAME_SIZE];
    const int name = t->name_length < 200 ? (int)t->name_length : 200;
    const int key = t->storage_length < 100 ? (int)t->storage_length : 100;
    *out = NULL;
    if (t->storage_length < sizeof rest - 8) {
        memcpy(rest, "data/", 5);
        memcpy(rest + 5, t->storage, t->storage_length);
        NV_TRY(find(in, rest, 5 + t->storage_length, out));
    }
    if (!*out)
        return nv_fail(in->err, NABLA_CORRUPT, "%s: storage \"%.*s\" of tensor \"%.*s\" is not in the archive",
                       in->name, key, t->storage, name, t->name);
    const size_t element = nv_st_dtype_size(t->dtype);
    if ((*out)->size / element != (size_t)t->elements || (*out)->size % element != 0)
        return nv_fail(in->err, NABLA_CORRUPT,
                       "%s: storage \"%.*s\" of tensor \"%.*s\" has %zu bytes, for %lld elements of %zu", in->name, key,
                       t->storage, name, t->name, (*out)->size, (long long)t->elements, element);
    return NABLA_OK;
}

static int row_major(const nv_pickle_tensor *t) {
    int64_t stride = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->strides[i] != stride) return 0;
        stride *= t->shape[i];
    }
    return 1;
}

static nabla_status add(nv_pth_file *f, const source *in, const nv_pickle_tensor *t) {
    nv_st_entry *e = &f->entries[f->count];
    const nv_zip_entry *storage;
    const size_t element = nv_st_dtype_size(t->dtype);
    NV_TRY(find_storage(in, t, &storage));
    f->names[f->count] = strndup(t->name, t->name_length);
    if (!f->names[f->count]) return nv_fail(in->err, NABLA_OUT_OF_MEMORY, "no memory to read %s", in->name);
    *e = (nv_st_entry){.name = f->names[f->count], .dtype = t->dtype, .rank = t->rank, .bytes = element};
    memcpy(e->shape, t->shape, sizeof e->shape);
    for (int i = 0; i < t->rank; i++)
        e->bytes *= (size_t)t->shape[i];
    /* An empty tensor may begin anywhere and has no data. */
    e->data = (const unsigned char *)storage->data + (e->bytes ? (size_t)t->offset * element : 0);
    if (e->bytes && !row_major(t)) e->strides = memcpy(f->strides[f->count], t->strides, sizeof t->strides);
    f->count++;
    return NABLA_OK;
}

static nabla_status add_all(nv_pth_file *f, const source *in, const nv_pickle_tensor *tensors, size_t count) {
    f->entries = calloc(count + 1, sizeof *f->entries);
    f->strides = calloc(count + 1, sizeof *f->strides);
    f->names = calloc(count + 1, sizeof *f->names);
    if (!f->entries || !f->strides || !f->names)
        return nv_fail(in->err, NABLA_OUT_OF_MEMORY, "%s: no memory to list %zu tensors", in->name, count);
    for (size_t i = 0; i < count; i++)
        NV_TRY(add(f, in, &tensors[i]));
    return NABLA_OK;
}

static nabla_status read_all(nv_pth_file *f, source *in) {
    const nv_zip_entry *pickle;
    nv_pickle_tensor *tensors;
    size_t count;
    NV_TRY(find_pickle(in, &pickle));
    NV_TRY(check_byte_order(in));
    NV_TRY(nv_pickle_read(pickle->data, pickle->size, in->name, &tensors, &count, in->err));
    nabla_status status = add_all(f, in, tensors, count);
    free(tensors);
    return status;
}

nabla_status nv_pth_open_memory(const void *data, size_t size, const char *name, nv_pth_file **out, nv_error *err) {
    source in = {.name = name, .err = err};
    *out = NULL;
    nv_pth_file *f = calloc(1, sizeof *f);
    if (!f) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", name);
    nabla_status status = nv_zip_open(data, size, name, &in.zip, err);
    if (status == NABLA_OK) status = read_all(f, &in);
    nv_zip_close(&in.zip);
    if (status == NABLA_OK)
        *out = f;
    else
        nv_pth_close(f);
    return status;
}

void nv_pth_close(nv_pth_file *f) {
    if (!f) return;
    for (size_t i = 0; f->names && i < f->count; i++)
        free(f->names[i]);
    free(f->entries);
    free(f->strides);
    free(f->names);
    free(f);
}

size_t nv_pth_count(const nv_pth_file *f) {
    return f->count;
}

const nv_st_entry *nv_pth_at(const nv_pth_file *f, size_t i) {
    return i < f->count ? &f->entries[i] : NULL;
}

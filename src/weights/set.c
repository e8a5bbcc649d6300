/* SPDX-License-Identifier: Apache-2.0 */
/* Files behind one list of tensors in order of name. Which files: set_index.c and set_folder.c. */
#include "weights/set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weights/set_files.h"

static const char zip_magic[] = "PK\3\4";

/* ------------------------------------------------------------------ opening files */

nabla_status nv_weights_new(const char *path, nv_weights **out, nv_error *err) {
    nv_weights *w = calloc(1, sizeof *w);
    *out = w;
    if (w) w->path = strdup(path);
    if (w && w->path) return NABLA_OK;
    nv_weights_close(w);
    *out = NULL;
    return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", path);
}

static int begins_with(const nv_map *map, const char *magic) {
    const size_t length = strlen(magic);
    return map->size >= length && memcmp(map->data, magic, length) == 0;
}

/* Opens what lies in file->map, by its first bytes. */
static nabla_status open_contents(nv_weights_part *file, nv_error *err) {
    if (begins_with(&file->map, "GGUF"))
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s is a GGUF file, whose quantised tensors are not read: choose the .safetensors in bf16 or "
                       "fp16",
                       file->path);
    if (begins_with(&file->map, "\x80\x02\x8a\x0a"))
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s is a pickle from before PyTorch 1.6, which is not read: load and save it again there",
                       file->path);
    if (begins_with(&file->map, zip_magic))
        return nv_pth_open_memory(file->map.data, file->map.size, file->path, &file->pth, err);
    return nv_st_open_memory(file->map.data, file->map.size, file->path, &file->st, err);
}

static size_t count_of(const nv_weights_part *file) {
    return file->pth ? nv_pth_count(file->pth) : nv_st_count(file->st);
}

static const nv_st_entry *entry_of(const nv_weights_part *file, size_t i) {
    return file->pth ? nv_pth_at(file->pth, i) : nv_st_at(file->st, i);
}

/* Room for one more file, already closed by nv_weights_close. */
static nabla_status add_file(nv_weights *w, const char *path, nv_weights_part **out, nv_error *err) {
    nv_weights_part *files = realloc(w->files, (w->file_count + 1) * sizeof *files);
    char *copy = strdup(path);
    if (files) w->files = files;
    if (!files || !copy) {
        free(copy);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", path);
    }
    *out = &files[w->file_count++];
    **out = (nv_weights_part){.path = copy};
    return NABLA_OK;
}

nabla_status nv_weights_add(nv_weights *w, const char *path, nv_error *err) {
    nv_weights_part *file = NULL;
    NV_TRY(add_file(w, path, &file, err));
    NV_TRY(nv_map_open(path, "a file of tensors", &file->map, err));
    file->owned = 1;
    return open_contents(file, err);
}

/* ------------------------------------------------------------------ the list */

static int compare_items(const void *a, const void *b) {
    const nv_weights_item *x = a, *y = b;
    const int order = strcmp(x->entry->name, y->entry->name);
    return order ? order : (x->file > y->file) - (x->file < y->file);
}

nabla_status nv_weights_list(nv_weights *w, nv_error *err) {
    size_t total = 0;
    for (size_t f = 0; f < w->file_count; f++)
        total += count_of(&w->files[f]);
    w->items = calloc(total + 1, sizeof *w->items);
    if (!w->items) return nv_fail(err, NABLA_OUT_OF_MEMORY, "%s: no memory to list %zu tensors", w->path, total);
    for (size_t f = 0; f < w->file_count; f++)
        for (size_t i = 0; i < count_of(&w->files[f]); i++)
            w->items[w->count++] = (nv_weights_item){entry_of(&w->files[f], i), f};
    qsort(w->items, w->count, sizeof *w->items, compare_items);
    for (size_t i = 1; i < w->count; i++) {
        const nv_weights_item *a = &w->items[i - 1], *b = &w->items[i];
        if (strcmp(a->entry->name, b->entry->name) == 0)
            return nv_fail(err, NABLA_CORRUPT, "tensor \"%s\" lies in both %s and %s", a->entry->name,
                           w->files[a->file].path, w->files[b->file].path);
    }
    return NABLA_OK;
}

const nv_weights_item *nv_weights_item_of(const nv_weights *w, const char *name) {
    size_t low = 0, high = w->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, w->items[middle].entry->name);
        if (order == 0) return &w->items[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ------------------------------------------------------------------ life */

static nabla_status open_any(nv_weights **out, const char *path, nv_error *err) {
    struct stat info;
    const int folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    char *chosen = NULL;
    if (folder) NV_TRY(nv_weights_choose(path, &chosen, err));
    const char *file = chosen ? chosen : path;
    nabla_status status = nv_weights_new(file, out, err);
    if (status == NABLA_OK && nv_weights_is_index(file))
        status = nv_weights_add_shards(*out, err);
    else if (status == NABLA_OK)
        status = nv_weights_add(*out, file, err);
    free(chosen);
    if (status != NABLA_OK || (*out)->items) return status;
    return nv_weights_list(*out, err);
}

nabla_status nv_weights_open(const char *path, nv_weights **out, nv_error *err) {
    *out = NULL;
    nabla_status status = open_any(out, path, err);
    if (status == NABLA_OK) return status;
    nv_weights_close(*out);
    *out = NULL;
    return status;
}

nabla_status nv_weights_open_memory(const void *data, size_t size, const char *name, nv_weights **out, nv_error *err) {
    nv_weights_part *file = NULL;
    NV_TRY(nv_weights_new(name, out, err));
    nabla_status status = add_file(*out, name, &file, err);
    if (status == NABLA_OK) {
        file->map = (nv_map){data, size};
        status = open_contents(file, err);
    }
    if (status == NABLA_OK) status = nv_weights_list(*out, err);
    if (status == NABLA_OK) return status;
    nv_weights_close(*out);
    *out = NULL;
    return status;
}

void nv_weights_close(nv_weights *w) {
    if (!w) return;
    for (size_t i = 0; i < w->file_count; i++) {
        nv_st_close(w->files[i].st);
        nv_pth_close(w->files[i].pth);
        if (w->files[i].owned) nv_map_close(&w->files[i].map);
        free(w->files[i].path);
    }
    free(w->files);
    free(w->items);
    free(w->path);
    free(w);
}

/* ------------------------------------------------------------------ asking */

size_t nv_weights_count(const nv_weights *w) {
    return w->count;
}

const nv_st_entry *nv_weights_at(const nv_weights *w, size_t i) {
    return i < w->count ? w->items[i].entry : NULL;
}

size_t nv_weights_index(const nv_weights *w, const nv_st_entry *entry) {
    return (size_t)(nv_weights_item_of(w, entry->name) - w->items);
}

const nv_st_entry *nv_weights_find(const nv_weights *w, const char *name) {
    const nv_weights_item *item = nv_weights_item_of(w, name);
    return item ? item->entry : NULL;
}

/* "[1, 2]", cut off where it does not fit. */
static const char *shape_text(const int64_t *shape, int rank, char text[160]) {
    size_t at = (size_t)snprintf(text, 160, "[");
    for (int i = 0; i < rank && at < 120; i++)
        at += (size_t)snprintf(text + at, 160 - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + at, 160 - at, "]");
    return text;
}

nabla_status nv_weights_get(const nv_weights *w, const char *name, const int64_t *shape, int rank,
                            const nv_st_entry **out, nv_error *err) {
    const nv_weights_item *item = nv_weights_item_of(w, name);
    if (!item) return nv_fail(err, NABLA_CORRUPT, "%s lacks the tensor \"%s\"", w->path, name);
    const nv_st_entry *e = *out = item->entry;
    int same = e->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = e->shape[i] == shape[i];
    if (same) return NABLA_OK;
    char found[160], wanted[160];
    return nv_fail(err, NABLA_CORRUPT, "%s: tensor \"%s\" has the shape %s, but must have %s",
                   w->files[item->file].path, name, shape_text(e->shape, e->rank, found),
                   shape_text(shape, rank, wanted));
}

void nv_weights_expect(const nv_weights *w, const nv_st_entry *entry) {
    const nv_weights_item *item = nv_weights_item_of(w, entry->name);
    if (item && w->files[item->file].owned) nv_map_expect(entry->data, entry->bytes);
}

void nv_weights_forget(const nv_weights *w, const nv_st_entry *entry) {
    const nv_weights_item *item = nv_weights_item_of(w, entry->name);
    if (item && w->files[item->file].owned) nv_map_forget(entry->data, entry->bytes);
}

const char *nv_weights_path(const nv_weights *w) {
    return w->path;
}

size_t nv_weights_files(const nv_weights *w) {
    return w->file_count;
}

const char *nv_weights_file(const nv_weights *w, const nv_st_entry *entry) {
    const nv_weights_item *item = nv_weights_item_of(w, entry->name);
    return item ? w->files[item->file].path : w->path;
}

const nv_st_file *nv_weights_safetensors(const nv_weights *w) {
    return w->file_count == 1 ? w->files[0].st : NULL;
}

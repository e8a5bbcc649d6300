/* SPDX-License-Identifier: Apache-2.0 */
/* *.safetensors.index.json: {"metadata": {...}, "weight_map": {tensor: shard, ...}}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/file.h"
#include "weights/json.h"
#include "weights/set_files.h"

enum { MAX_INDEX = 1 << 26, MAX_SHARDS = 4096, PATH_SIZE = 4096 };

static const char suffix[] = ".index.json";

int nv_weights_is_index(const char *path) {
    const size_t length = strlen(path), end = sizeof suffix - 1;
    return length >= end && strcmp(path + length - end, suffix) == 0;
}

/* The shards of an index while it is read. */
typedef struct index_reader {
    nv_weights *w;
    json_t *map;
    const char *names[MAX_SHARDS]; /* of the JSON's text, in the order of w->files */
    size_t count;
    nv_error *err;
} index_reader;

/* A plain name: an index must not reach out of its folder. */
static int stays_in_folder(const char *name) {
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static nabla_status shard_path(const index_reader *r, const char *shard, char path[PATH_SIZE]) {
    const char *slash = strrchr(r->w->path, '/');
    const int folder = slash ? (int)(slash - r->w->path) + 1 : 0;
    const int length = snprintf(path, PATH_SIZE, "%.*s%s", folder, r->w->path, shard);
    if (length < PATH_SIZE) return NABLA_OK;
    return nv_fail(r->err, NABLA_INVALID_ARGUMENT, "the path of shard %.100s is longer than %d bytes", shard,
                   PATH_SIZE - 1);
}

/* *file: the shard's place in w->files, or r->count if it is a new one. */
static nabla_status find_shard(const index_reader *r, const char *tensor, const json_t *value, size_t *file) {
    const char *shard = json_string_value(value);
    if (!shard || json_string_length(value) != strlen(shard) || !stays_in_folder(shard))
        return nv_fail(r->err, NABLA_CORRUPT, "%s places tensor \"%s\" in \"%s\", which is no file name in its folder",
                       r->w->path, tensor, shard ? shard : "(no text)");
    for (*file = 0; *file < r->count; (*file)++)
        if (strcmp(r->names[*file], shard) == 0) break;
    return NABLA_OK;
}

static nabla_status collect_shards(index_reader *r) {
    const char *tensor;
    json_t *value;
    json_object_foreach(r->map, tensor, value) {
        size_t file;
        NV_TRY(find_shard(r, tensor, value, &file));
        if (file < r->count) continue;
        if (r->count == MAX_SHARDS)
            return nv_fail(r->err, NABLA_UNSUPPORTED, "%s names more than %d shards", r->w->path, MAX_SHARDS);
        r->names[r->count++] = json_string_value(value);
    }
    return NABLA_OK;
}

/* All of those that are not there are told at once. */
static nabla_status open_shards(index_reader *r) {
    char path[PATH_SIZE];
    const char *first = NULL;
    size_t missing = 0;
    for (size_t i = 0; i < r->count; i++) {
        NV_TRY(shard_path(r, r->names[i], path));
        if (access(path, F_OK) == 0) continue;
        if (missing++ == 0) first = r->names[i];
    }
    if (missing > 0)
        return nv_fail(r->err, NABLA_IO, "%s names %zu shards and %zu of them are not there, such as %s: download them",
                       r->w->path, r->count, missing, first);
    for (size_t i = 0; i < r->count; i++) {
        NV_TRY(shard_path(r, r->names[i], path));
        NV_TRY(nv_weights_add(r->w, path, r->err));
    }
    return NABLA_OK;
}

/* Both ways: every tensor of the index lies in its shard, every tensor of a shard is in the index. */
static nabla_status check_places(const index_reader *r) {
    const char *tensor;
    json_t *value;
    json_object_foreach(r->map, tensor, value) {
        size_t file;
        NV_TRY(find_shard(r, tensor, value, &file));
        const nv_weights_item *item = nv_weights_item_of(r->w, tensor);
        if (!item || item->file != file)
            return nv_fail(r->err, NABLA_CORRUPT, "%s places tensor \"%s\" in %s, but it is not there%s%s", r->w->path,
                           tensor, r->names[file], item ? ": it lies in " : "", item ? r->names[item->file] : "");
    }
    for (size_t i = 0; i < r->w->count; i++) {
        const nv_weights_item *item = &r->w->items[i];
        if (!json_object_get(r->map, item->entry->name))
            return nv_fail(r->err, NABLA_CORRUPT, "%s holds tensor \"%s\", which %s does not name",
                           r->w->files[item->file].path, item->entry->name, r->w->path);
    }
    return NABLA_OK;
}

static nabla_status read_map(index_reader *r) {
    if (!json_is_object(r->map) || json_object_size(r->map) == 0)
        return nv_fail(r->err, NABLA_CORRUPT, "%s has no \"weight_map\" of tensors and shards", r->w->path);
    NV_TRY(collect_shards(r));
    NV_TRY(open_shards(r));
    NV_TRY(nv_weights_list(r->w, r->err));
    return check_places(r);
}

nabla_status nv_weights_add_shards(nv_weights *w, nv_error *err) {
    char *text;
    size_t size;
    nv_json j;
    NV_TRY(nv_file_read(w->path, MAX_INDEX, &text, &size, err));
    nabla_status status = nv_json_parse(text, size, w->path, &j, err);
    free(text);
    if (status != NABLA_OK) return status;
    index_reader *r = calloc(1, sizeof *r);
    if (r) {
        *r = (index_reader){.w = w, .map = json_object_get(j.object, "weight_map"), .err = err};
        status = read_map(r);
    } else {
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read %s", w->path);
    }
    free(r);
    nv_json_close(&j);
    return status;
}

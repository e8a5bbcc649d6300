/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/json.h"

enum { MAX_INDEX = 1 << 26, MAX_SHARDS = 4096 };

struct nv_shards {
    char *path;
    json_t *map;  /* tensor -> file; NULL: one file */
    char **names; /* of the shards, as the index has them */
    nv_st_file **files;
    size_t count;
};

void nv_shards_close(nv_shards *s) {
    if (!s) return;
    for (size_t i = 0; i < s->count; i++) {
        nv_st_close(s->files[i]);
        free(s->names[i]);
    }
    json_decref(s->map);
    free(s->files);
    free(s->names);
    free(s->path);
    free(s);
}

const char *nv_shards_path(const nv_shards *s) {
    return s->path;
}

static nv_st_file *file_of(const nv_shards *s, const char *name) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->names[i], name) == 0) return s->files[i];
    return NULL;
}

/* NULL where an index does not name the tensor, even if a shard holds it. */
const nv_st_entry *nv_shards_find(const nv_shards *s, const char *name) {
    if (!s->map) return nv_st_find(s->files[0], name);
    const char *file = json_string_value(json_object_get(s->map, name));
    return file ? nv_st_find(file_of(s, file), name) : NULL;
}

void nv_shards_forget(const nv_shards *s, const nv_st_entry *entry) {
    for (size_t i = 0; i < s->count; i++)
        if (nv_st_find(s->files[i], entry->name) == entry) nv_st_forget(s->files[i], entry);
}

static nabla_status add_file(nv_shards *s, const char *name, const char *path, nv_error *err) {
    char **names = realloc(s->names, (s->count + 1) * sizeof *names);
    if (names) s->names = names;
    nv_st_file **files = realloc(s->files, (s->count + 1) * sizeof *files);
    if (files) s->files = files;
    char *copy = strdup(name);
    if (!names || !files || !copy) {
        free(copy);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", path);
    }
    nabla_status status = nv_st_open(path, &s->files[s->count], err);
    if (status != NABLA_OK) {
        free(copy);
        if (name[0]) nv_fail_in(err, "%s", s->path); /* who names the shard */
        return status;
    }
    s->names[s->count++] = copy;
    return NABLA_OK;
}

/* A shard lies beside its index: a name with a slash would lead elsewhere. */
static nabla_status add_shard(nv_shards *s, const char *tensor, const json_t *value, nv_error *err) {
    const char *name = json_string_value(value), *slash = strrchr(s->path, '/');
    const size_t folder = slash ? (size_t)(slash - s->path) + 1 : 0;
    char path[4096];
    if (!name || !name[0] || strchr(name, '/') || strlen(name) != json_string_length(value))
        return nv_fail(err, NABLA_CORRUPT, "%s: \"weight_map\" gives tensor \"%s\" no name of a file beside it",
                       s->path, tensor);
    if (file_of(s, name)) return NABLA_OK;
    if (s->count == MAX_SHARDS) return nv_fail(err, NABLA_CORRUPT, "%s names more than %d shards", s->path, MAX_SHARDS);
    const int n = snprintf(path, sizeof path, "%.*s%s", (int)folder, s->path, name);
    if (n < 0 || n >= (int)sizeof path)
        return nv_fail(err, NABLA_CORRUPT, "%s: the name of the shard \"%.60s...\" is too long", s->path, name);
    return add_file(s, name, path, err);
}

static nabla_status read_map(nv_shards *s, const nv_json *j) {
    static const char *const keys[] = {"metadata", "weight_map", NULL};
    const char *tensor;
    json_t *value;
    NV_TRY(nv_json_known_keys(j, keys));
    s->map = json_incref(json_object_get(j->object, "weight_map"));
    if (!json_is_object(s->map) || json_object_size(s->map) == 0)
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"weight_map\" must say which file holds which tensor", j->name);
    json_object_foreach(s->map, tensor, value) {
        NV_TRY(add_shard(s, tensor, value, j->err));
        if (!nv_shards_find(s, tensor))
            return nv_fail(j->err, NABLA_CORRUPT, "%s: tensor \"%s\" is not in \"%s\", where the index has it", j->name,
                           tensor, json_string_value(value));
    }
    return NABLA_OK;
}

static nabla_status open_index(nv_shards *s, nv_error *err) {
    char *text;
    size_t size;
    nv_json j;
    NV_TRY(nv_file_read(s->path, MAX_INDEX, &text, &size, err));
    nabla_status status = nv_json_parse(text, size, s->path, &j, err);
    free(text);
    if (status != NABLA_OK) return status;
    status = read_map(s, &j);
    nv_json_close(&j);
    return status;
}

nabla_status nv_shards_open(const char *path, nv_shards **out, nv_error *err) {
    const size_t length = strlen(path);
    const int index = length > 5 && strcmp(path + length - 5, ".json") == 0;
    *out = NULL;
    nv_shards *s = calloc(1, sizeof *s);
    if (s) s->path = strdup(path);
    nabla_status status = NABLA_OK;
    if (!s || !s->path)
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", path);
    else
        status = index ? open_index(s, err) : add_file(s, "", path, err);
    if (status != NABLA_OK) {
        nv_shards_close(s);
        return status;
    }
    *out = s;
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The index of a sharded checkpoint: the input is one beside two shards, a.safetensors with tensors x and y and
   b.safetensors with z. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/set.h"

static char folder[] = "/tmp/nabla-fuzz-index-XXXXXX", index_path[64], shards[2][64];

static void remove_files(void) {
    unlink(index_path);
    unlink(shards[0]);
    unlink(shards[1]);
    rmdir(folder);
}

static void write_shard(const char *path, const char *const *names, size_t count) {
    static const float values[2] = {1, 2};
    nv_st_entry entries[2];
    for (size_t i = 0; i < count; i++)
        entries[i] =
            (nv_st_entry){.name = names[i], .dtype = NV_ST_F32, .rank = 1, .shape = {2}, .bytes = 8, .data = values};
    if (nv_st_write(path, entries, count, NULL, 0, NULL) != NABLA_OK) abort();
}

static void make_folder(void) {
    static const char *const names[] = {"x", "y", "z"};
    static int made;
    if (made++) return;
    if (!mkdtemp(folder)) abort();
    snprintf(index_path, sizeof index_path, "%s/m.safetensors.index.json", folder);
    snprintf(shards[0], sizeof shards[0], "%s/a.safetensors", folder);
    snprintf(shards[1], sizeof shards[1], "%s/b.safetensors", folder);
    write_shard(shards[0], names, 2);
    write_shard(shards[1], names + 2, 1);
    atexit(remove_files);
}

/* What opens holds every tensor once, each in the shard that the index names. */
static void use(const nv_weights *w) {
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const nv_st_entry *e = nv_weights_at(w, i);
        float values[2];
        const char *file = strrchr(nv_weights_file(w, e), '/');
        if (nv_weights_find(w, e->name) != e || nv_weights_index(w, e) != i) abort();
        if (nv_st_read_f32(e, values, 2, NULL) != NABLA_OK || values[1] < 2.0f) abort();
        if (strcmp(file, e->name[0] == 'z' ? "/b.safetensors" : "/a.safetensors") != 0) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nv_weights *w;
    nv_error err = {0};
    make_folder();
    FILE *file = fopen(index_path, "wb");
    if (!file) abort();
    fwrite(data, 1, size, file);
    fclose(file);
    const nabla_status status = nv_weights_open(index_path, &w, &err);
    if (status != err.status || (status != NABLA_OK) != (err.text[0] != '\0')) abort();
    if (status == NABLA_OK) use(w);
    nv_weights_close(w);
    return 0;
}

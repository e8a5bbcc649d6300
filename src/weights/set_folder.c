/* SPDX-License-Identifier: Apache-2.0 */
/* Which file of a folder holds its tensors. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/set_files.h"

enum { PATH_SIZE = 4096 };

static const char tensors[] = ".safetensors", shards[] = ".safetensors.index.json";

static int ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* What a folder holds of the files that could be meant. */
typedef struct listing {
    char index[256], single[256]; /* the last seen of each kind */
    size_t indexes, singles, usual;
    char chosen[256]; /* the last seen with one of the usual names */
} listing;

static int is_usual(const char *name) {
    static const char *const stems[] = {"diffusion_pytorch_model", "model"};
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++) {
        const size_t length = strlen(stems[i]);
        if (strncmp(name, stems[i], length) != 0) continue;
        if (strcmp(name + length, tensors) == 0 || strcmp(name + length, shards) == 0) return 1;
    }
    return 0;
}

static void look_at(listing *l, const char *name) {
    if (name[0] == '.' || strlen(name) >= sizeof l->index) return;
    const int index = ends_with(name, shards);
    if (!index && !ends_with(name, tensors)) return;
    memcpy(index ? l->index : l->single, name, strlen(name) + 1);
    (*(index ? &l->indexes : &l->singles))++;
    if (!is_usual(name)) return;
    memcpy(l->chosen, name, strlen(name) + 1);
    l->usual++;
}

static nabla_status choose(const char *folder, listing *l, nv_error *err) {
    if (l->usual == 1) return NABLA_OK;
    if (l->usual > 1)
        return nv_fail(err, NABLA_CORRUPT, "%s holds weights twice, whole and as an index: name the file to use",
                       folder);
    if (l->indexes == 1)
        memcpy(l->chosen, l->index, sizeof l->chosen);
    else if (l->indexes == 0 && l->singles == 1)
        memcpy(l->chosen, l->single, sizeof l->chosen);
    else if (l->indexes == 0 && l->singles == 0)
        return nv_fail(err, NABLA_IO, "%s holds no .safetensors and no .safetensors.index.json", folder);
    else
        return nv_fail(err, NABLA_IO,
                       "%s holds %zu .safetensors and %zu indexes: shards need their .safetensors.index.json, of "
                       "several files name one",
                       folder, l->singles, l->indexes);
    return NABLA_OK;
}

nabla_status nv_weights_choose(const char *folder, char **path, nv_error *err) {
    listing l = {0};
    char full[PATH_SIZE];
    *path = NULL;
    DIR *dir = opendir(folder);
    if (!dir) return nv_fail(err, NABLA_IO, "cannot open the folder %s: %s", folder, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(dir));)
        look_at(&l, entry->d_name);
    closedir(dir);
    NV_TRY(choose(folder, &l, err));
    if (snprintf(full, sizeof full, "%s/%s", folder, l.chosen) >= PATH_SIZE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the path %.100s/... is longer than %d bytes", folder,
                       PATH_SIZE - 1);
    *path = strdup(full);
    return *path ? NABLA_OK : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a path");
}

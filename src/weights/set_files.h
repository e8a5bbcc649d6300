/* SPDX-License-Identifier: Apache-2.0 */
/* A set of tensors from inside: its files, and how an index or a folder chooses them. */
#ifndef NV_SET_FILES_H
#define NV_SET_FILES_H

#include "weights/map.h"
#include "weights/pth.h"
#include "weights/set.h"

typedef struct nv_weights_part {
    char *path;
    nv_map map;
    int owned; /* the map is ours to close */
    nv_st_file *st;
    nv_pth_file *pth; /* one of the two */
} nv_weights_part;

typedef struct nv_weights_item {
    const nv_st_entry *entry;
    size_t file;
} nv_weights_item;

struct nv_weights {
    char *path;
    nv_weights_part *files;
    size_t file_count;
    nv_weights_item *items; /* in order of name, once listed */
    size_t count;
};

nabla_status nv_weights_new(const char *path, nv_weights **out, nv_error *err);
nabla_status nv_weights_add(nv_weights *w, const char *path, nv_error *err); /* maps and opens one file */
nabla_status nv_weights_list(nv_weights *w, nv_error *err);                  /* of all files; duplicates are errors */
const nv_weights_item *nv_weights_item_of(const nv_weights *w, const char *name);

/* set_index.c: whether a name is that of an index; the shards of the index at w->path, checked and listed. */
int nv_weights_is_index(const char *path);
nabla_status nv_weights_add_shards(nv_weights *w, nv_error *err);
/* set_folder.c: the path of the file to open in a folder, the caller's to free. */
nabla_status nv_weights_choose(const char *folder, char **path, nv_error *err);

#endif

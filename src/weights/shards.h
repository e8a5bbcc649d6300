/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of one model: a .safetensors file, or several (shards) that an index lists, as one list of tensors.
   {"metadata": {...}, "weight_map": {"tensor": "file.safetensors", ...}} beside its shards. */
#ifndef NV_SHARDS_H
#define NV_SHARDS_H

#include "weights/safetensors.h"

typedef struct nv_shards nv_shards;

/* path: a .safetensors file, or an index ending in .json. Every tensor that an index names must be in its shard. */
nabla_status nv_shards_open(const char *path, nv_shards **out, nv_error *err);
void nv_shards_close(nv_shards *s); /* NULL is fine */
const char *nv_shards_path(const nv_shards *s);
const nv_st_entry *nv_shards_find(const nv_shards *s, const char *name); /* NULL if there is none */
void nv_shards_forget(const nv_shards *s, const nv_st_entry *entry);     /* as nv_st_forget */

#endif

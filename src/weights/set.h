/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tensors of one part of a model (transformer, text encoder, VAE), wherever they lie: one .safetensors, one .pth,
 * or the shards that an index names. Every file is mapped; nothing is read before it is asked for.
 *
 *     nv_weights *w;
 *     NV_TRY(nv_weights_open("Wan2.1/vae", &w, err));                     a folder or a file
 *     const nv_st_entry *e;
 *     status = nv_weights_get(w, "decoder.conv_in.weight", shape, 5, &e, err);
 *     if (status == NABLA_OK) status = nv_st_read_f32(e, values, count, err);
 *     nv_weights_close(w);                                                entries live until here
 *
 * Entries are those of safetensors.h; read them by nv_st_read or nv_st_read_f32, which know about alignment, dtypes
 * and the strides of a .pth.
 */
#ifndef NV_SET_H
#define NV_SET_H

#include "weights/safetensors.h"

typedef struct nv_weights nv_weights;

/* path: a .safetensors, a PyTorch .pth, an index (*.safetensors.index.json), or a folder that holds one of them: by
   the names diffusion_pytorch_model or model, else the only index, else the only .safetensors. What a file is, its
   first bytes say, not its name. Formats that are not read (GGUF, pickles from before PyTorch 1.6) are refused by name.
   Of shards, each tensor must lie in the shard that the index names for it, and in no other. */
nabla_status nv_weights_open(const char *path, nv_weights **out, nv_error *err);
/* The same over memory, which must outlive it: one .safetensors or .pth. */
nabla_status nv_weights_open_memory(const void *data, size_t size, const char *name, nv_weights **out, nv_error *err);
void nv_weights_close(nv_weights *w);

size_t nv_weights_count(const nv_weights *w);
const nv_st_entry *nv_weights_at(const nv_weights *w, size_t i);           /* in order of name */
size_t nv_weights_index(const nv_weights *w, const nv_st_entry *entry);    /* of a tensor of this set */
const nv_st_entry *nv_weights_find(const nv_weights *w, const char *name); /* NULL if there is none */
/* The tensor of that name and shape, or a sentence that names it, both shapes and the file. */
nabla_status nv_weights_get(const nv_weights *w, const char *name, const int64_t *shape, int rank,
                            const nv_st_entry **out, nv_error *err);

/* Tells that a tensor of this set will be read soon: the file's pages come into memory meanwhile. Nothing for the
   caller's memory. */
void nv_weights_expect(const nv_weights *w, const nv_st_entry *entry);
/* Tells that a tensor of this set was read and is not needed soon: its pages leave this process, and come back from
   the file where it is read again. Nothing for the caller's memory. */
void nv_weights_forget(const nv_weights *w, const nv_st_entry *entry);

const char *nv_weights_path(const nv_weights *w); /* as opened, or the file chosen in the folder */
size_t nv_weights_files(const nv_weights *w);
/* The one .safetensors that the set is, for its metadata and order; NULL if it is another file or several. */
const nv_st_file *nv_weights_safetensors(const nv_weights *w);
/* The file that a tensor of this set lies in, for messages. */
const char *nv_weights_file(const nv_weights *w, const nv_st_entry *entry);

#endif

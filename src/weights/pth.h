/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch's checkpoints (.pth, .pt, .bin; since PyTorch 1.6): a zip archive of stored entries, NAME/data.pkl the pickle
   of a state dict, NAME/data/KEY a storage each. Tensors are found in place; their strides may be any. */
#ifndef NV_PTH_H
#define NV_PTH_H

#include "weights/safetensors.h"

typedef struct nv_pth_file nv_pth_file;

/* data must outlive the file. Use weights/set.h to open a path. */
nabla_status nv_pth_open_memory(const void *data, size_t size, const char *name, nv_pth_file **out, nv_error *err);
void nv_pth_close(nv_pth_file *file);
size_t nv_pth_count(const nv_pth_file *file);
const nv_st_entry *nv_pth_at(const nv_pth_file *file, size_t i); /* in order of name */

#endif

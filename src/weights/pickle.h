/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pickle of a PyTorch state dict, and of nothing else. Pickles are programs that build objects; this reader knows
 * the few instructions that torch.save (protocol 2) writes for a dict of tensors, keeps what they describe as plain
 * values, and refuses every other instruction and class by name. No object of any class is ever made, and no value
 * is looked into deeper than a tuple: nothing recurses.
 */
#ifndef NV_PICKLE_H
#define NV_PICKLE_H

#include "weights/safetensors.h"

/* A tensor as the pickle describes it. Checked so far: rank, sizes and strides are from 0 up, the shape's bytes fit
   int64_t, and its last element lies within the storage's `elements`. */
typedef struct nv_pickle_tensor {
    const char *name; /* of the entry in the dict; not NUL-terminated */
    size_t name_length;
    const char *storage; /* the storage's key, e.g. "0" */
    size_t storage_length;
    nv_st_dtype dtype;
    int64_t elements; /* of the storage */
    int64_t offset;   /* elements */
    int rank;
    int64_t shape[NV_ST_MAX_RANK], strides[NV_ST_MAX_RANK];
} nv_pickle_tensor;

/* *tensors: in order of name, the caller's to free; names point into `data`. `file` names the pickle in messages. */
nabla_status nv_pickle_read(const void *data, size_t size, const char *file, nv_pickle_tensor **tensors, size_t *count,
                            nv_error *err);

#endif

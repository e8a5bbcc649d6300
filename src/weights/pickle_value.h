/* SPDX-License-Identifier: Apache-2.0 */
/* What the reader of pickles keeps of the values that a pickle describes. */
#ifndef NV_PICKLE_VALUE_H
#define NV_PICKLE_VALUE_H

#include "weights/pickle.h"

typedef enum nv_pickle_kind {
    NV_PICKLE_MARK, /* where a tuple or a list of items begins on the stack */
    NV_PICKLE_NONE,
    NV_PICKLE_BOOL,
    NV_PICKLE_INT,
    NV_PICKLE_FLOAT, /* its number is of no use to a state dict */
    NV_PICKLE_TEXT,
    NV_PICKLE_TUPLE,
    NV_PICKLE_DICT,
    NV_PICKLE_CLASS,
    NV_PICKLE_STORAGE,
    NV_PICKLE_TENSOR
} nv_pickle_kind;

typedef enum nv_pickle_class {
    NV_PICKLE_ORDERED_DICT,
    NV_PICKLE_REBUILD_TENSOR,
    NV_PICKLE_REBUILD_PARAMETER,
    NV_PICKLE_STORAGE_CLASS
} nv_pickle_class;

typedef struct nv_pickle_value {
    nv_pickle_kind kind;
    int64_t number; /* INT, BOOL; of a STORAGE its elements; of a TENSOR its place in `tensors` */
    const char *text;
    size_t length; /* of text; of a TUPLE its items, from `first` in `items`; of a DICT its pairs */
    size_t first;
    nv_pickle_class class;
    nv_st_dtype dtype; /* of a STORAGE or its class */
} nv_pickle_value;

/* A dict's item. Pairs are kept in the order they were made and found by their dict, as dicts are few. */
typedef struct nv_pickle_pair {
    size_t dict, key, value;
} nv_pickle_pair;

/* Values are numbered in the order they were made; stack, memo and items hold their numbers. All grow with the
   pickle's bytes and no faster: an instruction makes one value at most. */
typedef struct nv_pickle {
    const unsigned char *data;
    size_t size, at;
    const char *file;
    nv_error *err;
    nv_pickle_value *values;
    size_t *stack, *items, *memo; /* memo: number + 1, 0 where there is none */
    nv_pickle_pair *pairs;
    nv_pickle_tensor *tensors;
    size_t value_count, stack_count, item_count, pair_count, tensor_count;
    size_t value_space, stack_space, item_space, memo_space, pair_space, tensor_space;
} nv_pickle;

/* pickle_build.c: the two instructions that call something, and the class that an instruction names. */
nabla_status nv_pickle_class_of(nv_pickle *p, const char *module, size_t module_length, const char *name,
                                size_t name_length, nv_pickle_value *out);
nabla_status nv_pickle_reduce(nv_pickle *p, const nv_pickle_value *callee, const nv_pickle_value *arguments,
                              nv_pickle_value *out);
nabla_status nv_pickle_storage(nv_pickle *p, const nv_pickle_value *id, nv_pickle_value *out);

/* pickle.c: makes room for one more element of *list. */
nabla_status nv_pickle_grow(nv_pickle *p, void **list, size_t count, size_t *space, size_t size);
const char *nv_pickle_kind_name(nv_pickle_kind kind);

#endif

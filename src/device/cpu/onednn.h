/* SPDX-License-Identifier: Apache-2.0 */
/* oneDNN's state, and its two API versions under one set of names; shared by the files onednn*.c alone. */
#ifndef NV_ONEDNN_H
#define NV_ONEDNN_H

#include "device/cpu/product.h"
#include <dnnl.h>

enum { NV_ONEDNN_BUCKETS = 64 };

struct nv_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int32_t threads;
    void *scratch;
    size_t scratch_bytes;
    struct nv_primitive *primitives[NV_ONEDNN_BUCKETS];
};

static inline dnnl_data_type_t nv_onednn_type(int32_t dtype) {
    return dtype == NABLA_BF16 ? dnnl_bf16 : dnnl_f32;
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t nv_desc;
typedef const_dnnl_memory_desc_t nv_desc_ref;
#define NV_DESC_REF(d) (d)

static inline dnnl_status_t nv_desc_create(nv_desc *d, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                           const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(d, rank, dims, type, strides);
}

/* In the order that the primitive likes best. */
static inline dnnl_status_t nv_desc_create_any(nv_desc *d, int rank, const dnnl_dims_t dims, dnnl_data_type_t type) {
    return dnnl_memory_desc_create_with_tag(d, rank, dims, type, dnnl_format_tag_any);
}

static inline int nv_desc_is_set(const nv_desc *d) {
    return *d != NULL;
}

static inline void nv_desc_destroy(nv_desc *d) {
    if (*d) dnnl_memory_desc_destroy(*d);
}
#else
typedef dnnl_memory_desc_t nv_desc;
typedef const dnnl_memory_desc_t *nv_desc_ref;
#define NV_DESC_REF(d) (&(d))

static inline dnnl_status_t nv_desc_create(nv_desc *d, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                           const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(d, rank, dims, type, strides);
}

static inline dnnl_status_t nv_desc_create_any(nv_desc *d, int rank, const dnnl_dims_t dims, dnnl_data_type_t type) {
    return dnnl_memory_desc_init_by_tag(d, rank, dims, type, dnnl_format_tag_any);
}

static inline int nv_desc_is_set(const nv_desc *d) {
    return d->ndims != 0;
}

static inline void nv_desc_destroy(nv_desc *d) {
    (void)d; /* a plain value in version 2 */
}
#endif

/* ---- onednn_cache.c: primitives, made on first use and kept */

enum { NV_ARG_X, NV_ARG_WEIGHTS, NV_ARG_Y, NV_ARG_BIAS, NV_ARG_SCRATCH, NV_ARGS };

/* Makes a key's primitive descriptor from descs of its arguments, which come zeroed; one left so is no argument. */
typedef dnnl_status_t nv_describe_fn(nv_onednn *d, const void *key, dnnl_primitive_desc_t *pd, nv_desc descs[NV_ARGS]);

/* What a primitive is made for. The bytes are compared, so what they are of is zeroed first. */
typedef struct nv_primitive_key {
    nv_describe_fn *describe;
    const void *bytes;
    size_t size; /* the same for all keys of one describe */
} nv_primitive_key;

typedef struct nv_primitive {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[NV_ARGS];
    struct nv_primitive *next;
    nv_describe_fn *describe;
    unsigned char key[];
} nv_primitive;

dnnl_status_t nv_onednn_find(nv_onednn *d, const nv_primitive_key *key, nv_primitive **out);
/* Runs it and waits. data: scratch memory's is the cache's own. */
dnnl_status_t nv_onednn_execute(nv_onednn *d, nv_primitive *p, const void *const data[NV_ARGS]);
/* 1, and the kernel's name (size may be 0), where it is not oneDNN's reference code, which is slower than ours by far.
 */
int nv_onednn_has_kernel(nv_onednn *d, const nv_primitive_key *key, char *name, size_t size);
void nv_onednn_primitives_destroy(nv_onednn *d);

/* onednn.c: to add to what is there, and scratch memory from the caller. */
dnnl_status_t nv_onednn_attr(int32_t add, dnnl_primitive_attr_t *attr);

#endif

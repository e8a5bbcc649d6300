/* SPDX-License-Identifier: Apache-2.0 */
/* oneDNN's state, and its two API versions under one set of names; shared by the files onednn*.c alone. */
#ifndef NV_ONEDNN_H
#define NV_ONEDNN_H

#include "device/cpu/product.h"
#include <dnnl.h>

enum { NV_ONEDNN_BUCKETS = 64 };

struct nv_onednn_product; /* primitives, made once for each shape */
struct nv_onednn_conv;

struct nv_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int32_t threads;
    void *scratch;
    size_t scratch_bytes;
    struct nv_onednn_product *products[NV_ONEDNN_BUCKETS];
    struct nv_onednn_conv *convs[NV_ONEDNN_BUCKETS];
};

/* What the two files lend each other. */
dnnl_status_t nv_onednn_reserve(nv_onednn *d, size_t bytes); /* scratch memory, one piece for all primitives */
dnnl_status_t nv_onednn_attr(int32_t add, dnnl_primitive_attr_t *attr);
size_t nv_onednn_bucket(const void *key, size_t size);
void nv_onednn_convs_destroy(nv_onednn *d);

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

static inline void nv_desc_destroy(nv_desc *d) {
    (void)d; /* a plain value in version 2 */
}
#endif

#endif

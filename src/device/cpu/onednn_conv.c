/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Convolutions by oneDNN, channels last. The order of weights is oneDNN's choice by shape and may change with the
 * frame's size: they are held in that of a middling frame, then of the last call, and put into another when one needs
 * it.
 */
#include "device/cpu/convolution.h"
#include "device/cpu/onednn.h"
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What a primitive is made for; compared as bytes, so it is zeroed first. */
typedef struct conv_key {
    nv_conv_shape shape;
    int32_t height, width, dtype, bias, add;
} conv_key;

struct nv_onednn_weights {
    nv_conv_shape shape;
    int32_t dtype;
    dnnl_memory_t memory; /* with its data */
};

/* ------------------------------------------------------------------------------ making a primitive */

static dnnl_status_t pd_create(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, nv_desc descs[NV_ARGS],
                               const nv_conv_shape *s, dnnl_primitive_attr_t attr) {
    const dnnl_dims_t strides = {s->stride, s->stride}, before = {s->pad_before, s->pad_before},
                      after = {s->pad_after, s->pad_after};
#if DNNL_VERSION_MAJOR >= 3
    const dnnl_dims_t dense = {0, 0};
    return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_inference, dnnl_convolution_direct,
                                                          descs[NV_ARG_X], descs[NV_ARG_WEIGHTS], descs[NV_ARG_BIAS],
                                                          descs[NV_ARG_Y], strides, dense, before, after, attr);
#else
    dnnl_convolution_desc_t op;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &op, dnnl_forward_inference, dnnl_convolution_direct, &descs[NV_ARG_X], &descs[NV_ARG_WEIGHTS],
        descs[NV_ARG_BIAS].ndims ? &descs[NV_ARG_BIAS] : NULL, &descs[NV_ARG_Y], strides, before, after);
    return status ? status : dnnl_primitive_desc_create(pd, &op, attr, engine, NULL);
#endif
}

static dnnl_status_t frame_desc(nv_desc *d, int64_t channels, int64_t height, int64_t width, dnnl_data_type_t type) {
    const dnnl_dims_t dims = {1, channels, height, width},
                      steps = {height * width * channels, 1, width * channels, channels};
    return nv_desc_create(d, 4, dims, type, steps);
}

static dnnl_status_t describe(nv_onednn *d, const void *bytes, dnnl_primitive_desc_t *pd, nv_desc descs[NV_ARGS]) {
    const conv_key *key = bytes;
    const nv_conv_shape *s = &key->shape;
    const dnnl_dims_t weights = {s->out, s->in, s->kernel, s->kernel}, bias = {s->out}, one = {1};
    const dnnl_data_type_t type = nv_onednn_type(key->dtype);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = frame_desc(&descs[NV_ARG_X], s->in, key->height, key->width, type);
    if (!status) status = nv_desc_create_any(&descs[NV_ARG_WEIGHTS], 4, weights, type);
    if (!status && key->bias) status = nv_desc_create(&descs[NV_ARG_BIAS], 1, bias, dnnl_f32, one);
    if (!status)
        status =
            frame_desc(&descs[NV_ARG_Y], s->out, nv_conv_side(s, key->height), nv_conv_side(s, key->width), dnnl_f32);
    if (!status) status = nv_onednn_attr(key->add, &attr);
    if (!status) status = pd_create(pd, d->engine, descs, s, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return status;
}

/* ------------------------------------------------------------------------------ weights */

/* A copy of `from`, which is in the order of `have`, in the order of `wanted`. */
static dnnl_status_t copy_in_order(nv_onednn *d, dnnl_memory_t from, nv_desc_ref have, nv_desc_ref wanted,
                                   dnnl_memory_t *out) {
    dnnl_memory_t memory = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_status_t status = dnnl_memory_create(&memory, wanted, d->engine, DNNL_MEMORY_ALLOCATE);
    if (!status) status = dnnl_reorder_primitive_desc_create(&pd, have, d->engine, wanted, d->engine, NULL);
    if (!status) status = dnnl_primitive_create(&primitive, pd);
    if (!status) {
        const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, memory}};
        status = dnnl_primitive_execute(primitive, d->stream, 2, args);
    }
    if (!status) status = dnnl_stream_wait(d->stream);
    if (primitive) dnnl_primitive_destroy(primitive);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (status && memory) dnnl_memory_destroy(memory);
    if (!status) *out = memory;
    return status;
}

/* Puts them into the order of `wanted`. */
static dnnl_status_t reorder(nv_onednn *d, nv_onednn_weights *w, nv_desc_ref wanted) {
    nv_desc_ref have;
    dnnl_memory_t memory;
    dnnl_status_t status = dnnl_memory_get_memory_desc(w->memory, &have);
    if (status || dnnl_memory_desc_equal(have, wanted)) return status;
    status = copy_in_order(d, w->memory, have, wanted, &memory);
    if (status) return status;
    dnnl_memory_destroy(w->memory);
    w->memory = memory;
    return dnnl_success;
}

/* The convolution of a frame of middling size. */
static conv_key middling(const nv_conv_shape *shape, nabla_dtype dtype) {
    conv_key key;
    memset(&key, 0, sizeof key);
    key = (conv_key){*shape, 64, 64, (int32_t)dtype, 1, 1};
    return key;
}

/* A copy of plain weights in the order that a frame of middling size has them in, which is mostly every frame's: put
   into it later, when others lie behind them, each would leave a hole of its size in the heap. */
static dnnl_status_t take_plain(nv_onednn *d, nv_onednn_weights *w, const conv_key *key, const void *plain) {
    const nv_conv_shape *s = &w->shape;
    const int64_t line = (int64_t)s->kernel * s->in;
    const dnnl_dims_t dims = {s->out, s->in, s->kernel, s->kernel}, steps = {s->kernel * line, 1, line, s->in};
    nv_desc desc, descs[NV_ARGS];
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t pd = NULL;
    memset(&desc, 0, sizeof desc);
    memset(descs, 0, sizeof descs);
    dnnl_status_t status = nv_desc_create(&desc, 4, dims, nv_onednn_type(w->dtype), steps);
    if (!status) status = describe(d, key, &pd, descs);
    if (!status) status = dnnl_memory_create(&from, NV_DESC_REF(desc), d->engine, (void *)(uintptr_t)plain);
    if (!status)
        status = copy_in_order(d, from, NV_DESC_REF(desc), dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0),
                               &w->memory);
    if (from) dnnl_memory_destroy(from);
    if (pd) dnnl_primitive_desc_destroy(pd);
    nv_desc_destroy(&desc);
    for (int i = 0; i < NV_ARGS; i++)
        nv_desc_destroy(&descs[i]);
    return status;
}

nabla_status nv_onednn_weights_create(nv_onednn *d, const nv_conv_shape *shape, nabla_dtype dtype, const void *plain,
                                      nv_onednn_weights **out, nv_error *err) {
    const conv_key key = middling(shape, dtype);
    const int threads = omp_get_max_threads();
    *out = NULL;
    nv_onednn_weights *w = calloc(1, sizeof *w);
    if (!w) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a convolution");
    w->shape = *shape;
    w->dtype = (int32_t)dtype;
    omp_set_num_threads(d->threads); /* the order that is best depends on them */
    const bool has_kernel = nv_onednn_has_kernel(d, &(nv_primitive_key){describe, &key, sizeof key}, NULL, 0);
    const dnnl_status_t status = has_kernel ? take_plain(d, w, &key, plain) : dnnl_success;
    omp_set_num_threads(threads);
    if (!has_kernel) {
        nv_onednn_weights_destroy(w);
        return NABLA_OK;
    }
    if (status) {
        nv_onednn_weights_destroy(w);
        return nv_fail(err, status == dnnl_out_of_memory ? NABLA_OUT_OF_MEMORY : NABLA_INTERNAL,
                       "oneDNN refuses the weights of a convolution: status %d", (int)status);
    }
    *out = w;
    return NABLA_OK;
}

void nv_onednn_weights_destroy(nv_onednn_weights *weights) {
    if (!weights) return;
    if (weights->memory) dnnl_memory_destroy(weights->memory);
    free(weights);
}

/* ------------------------------------------------------------------------------ running one */

static dnnl_status_t execute(nv_onednn *d, const nv_conv *a, nv_onednn_weights *w) {
    conv_key key;
    memset(&key, 0, sizeof key);
    key = (conv_key){w->shape, a->height, a->width, w->dtype, a->bias != NULL, a->add != 0};
    nv_primitive *primitive;
    void *weights = NULL;
    dnnl_status_t status = nv_onednn_find(d, &(nv_primitive_key){describe, &key, sizeof key}, &primitive);
    if (!status) status = reorder(d, w, dnnl_primitive_desc_query_md(primitive->pd, dnnl_query_weights_md, 0));
    if (!status) status = dnnl_memory_get_data_handle(w->memory, &weights);
    const void *const data[NV_ARGS] = {
        [NV_ARG_X] = a->x[0], [NV_ARG_WEIGHTS] = weights, [NV_ARG_Y] = a->y, [NV_ARG_BIAS] = a->bias};
    return status ? status : nv_onednn_execute(d, primitive, data);
}

nabla_status nv_onednn_convolve(nv_onednn *d, const nv_conv *a, nv_onednn_weights *weights, nv_error *err) {
    const nv_conv_shape *s = &weights->shape;
    const int threads = omp_get_max_threads();
    omp_set_num_threads(d->threads);
    const dnnl_status_t status = execute(d, a, weights);
    omp_set_num_threads(threads);
    if (status == dnnl_success) return NABLA_OK;
    return nv_fail(err, status == dnnl_out_of_memory ? NABLA_OUT_OF_MEMORY : NABLA_INTERNAL,
                   "oneDNN refuses a convolution of %d to %d channels over %d x %d: status %d", s->in, s->out,
                   a->height, a->width, (int)status);
}

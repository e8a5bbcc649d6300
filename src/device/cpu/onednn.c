/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix products by oneDNN, through the C API of its version 2 (Debian 12: 2.6) or 3. oneDNN takes its team from
 * OpenMP's setting of the calling thread, which is set for the call and put back.
 */
#include "device/cpu/onednn.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a primitive is made for; compared as bytes, so it is zeroed first. */
typedef struct product_key {
    int64_t m, n, k, a_row, a_col, b_row, b_col, c_row, count, a_step, b_step, c_step;
    int32_t in, out, bias, add;
} product_key;

/* ------------------------------------------------------------------------------ the two API versions */

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t pd_create(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, nv_desc a, nv_desc b, nv_desc bias,
                               nv_desc c, dnnl_primitive_attr_t attr) {
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, bias, c, attr);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
#else
static dnnl_status_t pd_create(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, nv_desc a, nv_desc b, nv_desc bias,
                               nv_desc c, dnnl_primitive_attr_t attr) {
    dnnl_matmul_desc_t op;
    dnnl_status_t status = dnnl_matmul_desc_init(&op, &a, &b, bias.ndims ? &bias : NULL, &c);
    return status ? status : dnnl_primitive_desc_create(pd, &op, attr, engine, NULL);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f);
}
#endif

/* ------------------------------------------------------------------------------ making a primitive */

dnnl_status_t nv_onednn_attr(int32_t add, dnnl_primitive_attr_t *attr) {
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (!status) status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (status || !add) return status;
    dnnl_post_ops_t ops;
    status = dnnl_post_ops_create(&ops);
    if (status) return status;
    status = append_sum(ops);
    if (!status) status = dnnl_primitive_attr_set_post_ops(*attr, ops);
    dnnl_post_ops_destroy(ops);
    return status;
}

/* count matrices; a single one leaves out the first dimension. */
static dnnl_status_t matrix_desc(nv_desc *d, dnnl_data_type_t type, int64_t count, int64_t rows, int64_t cols,
                                 int64_t step, int64_t row, int64_t col) {
    const dnnl_dims_t many = {count, rows, cols}, many_steps = {step, row, col}, one = {rows, cols},
                      one_steps = {row, col};
    return count > 1 ? nv_desc_create(d, 3, many, type, many_steps) : nv_desc_create(d, 2, one, type, one_steps);
}

/* A row that all matrices share. */
static dnnl_status_t bias_desc(nv_desc *d, int64_t count, int64_t n) {
    const dnnl_dims_t many = {1, 1, n}, many_steps = {n, n, 1}, one = {1, n}, one_steps = {n, 1};
    return count > 1 ? nv_desc_create(d, 3, many, dnnl_f32, many_steps)
                     : nv_desc_create(d, 2, one, dnnl_f32, one_steps);
}

static dnnl_status_t describe(nv_onednn *d, const void *bytes, dnnl_primitive_desc_t *pd, nv_desc descs[NV_ARGS]) {
    const product_key *key = bytes;
    dnnl_primitive_attr_t attr = NULL;
    const dnnl_data_type_t in = nv_onednn_type(key->in), out = nv_onednn_type(key->out);
    dnnl_status_t status =
        matrix_desc(&descs[NV_ARG_X], in, key->count, key->m, key->k, key->a_step, key->a_row, key->a_col);
    if (!status)
        status =
            matrix_desc(&descs[NV_ARG_WEIGHTS], in, key->count, key->k, key->n, key->b_step, key->b_row, key->b_col);
    if (!status) status = matrix_desc(&descs[NV_ARG_Y], out, key->count, key->m, key->n, key->c_step, key->c_row, 1);
    if (!status && key->bias) status = bias_desc(&descs[NV_ARG_BIAS], key->count, key->n);
    if (!status) status = nv_onednn_attr(key->add, &attr);
    if (!status)
        status =
            pd_create(pd, d->engine, descs[NV_ARG_X], descs[NV_ARG_WEIGHTS], descs[NV_ARG_BIAS], descs[NV_ARG_Y], attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return status;
}

static product_key key_of(const nv_product *p) {
    product_key key;
    memset(&key, 0, sizeof key);
    key = (product_key){
        p->m,     p->n,      p->k,      p->a_row,  p->a_col,       p->b_row,        p->b_col,        p->c_row,
        p->count, p->a_step, p->b_step, p->c_step, (int32_t)p->in, (int32_t)p->out, p->bias != NULL, p->add};
    return key;
}

/* ------------------------------------------------------------------------------ the interface */

nabla_status nv_onednn_create(int32_t threads, nv_onednn **out, nv_error *err) {
    const dnnl_version_t *version = dnnl_version();
    *out = NULL;
    if (version->cpu_runtime != DNNL_RUNTIME_OMP && version->cpu_runtime != DNNL_RUNTIME_SEQ)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "this oneDNN %d.%d runs on threads of its own kind, not OpenMP; "
                       "install an OpenMP build or configure with NABLA_ONEDNN=OFF",
                       version->major, version->minor);
    nv_onednn *d = calloc(1, sizeof *d);
    if (!d) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for oneDNN's state");
    d->threads = threads;
    dnnl_status_t status = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    if (!status) status = dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags);
    if (status) {
        nv_onednn_destroy(d);
        return nv_fail(err, NABLA_INTERNAL, "oneDNN does not start: status %d", (int)status);
    }
    *out = d;
    return NABLA_OK;
}

void nv_onednn_destroy(nv_onednn *d) {
    if (!d) return;
    nv_onednn_primitives_destroy(d);
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    free(d->scratch);
    free(d);
}

int nv_onednn_supports(nv_onednn *d, nabla_dtype dtype, char *name, size_t size) {
    const nv_product probe = {.m = 256,
                              .n = 192,
                              .k = 192,
                              .in = dtype,
                              .out = dtype,
                              .a_row = 192,
                              .a_col = 1,
                              .b_row = 1,
                              .b_col = 192,
                              .c_row = 192,
                              .count = 1};
    const dnnl_version_t *version = dnnl_version();
    const product_key key = key_of(&probe);
    char kernel[64];
    if (!nv_onednn_has_kernel(d, &(nv_primitive_key){describe, &key, sizeof key}, kernel, sizeof kernel)) return 0;
    /* That one cuts k by the number of threads, and with it changes bits; ours takes about as long. */
    if (strncmp(kernel, "gemm", 4) == 0) return 0;
    snprintf(name, size, "oneDNN %d.%d.%d %s", version->major, version->minor, version->patch, kernel);
    return 1;
}

static dnnl_status_t execute(nv_onednn *d, const nv_product *p) {
    const product_key key = key_of(p);
    const void *const data[NV_ARGS] = {
        [NV_ARG_X] = p->a, [NV_ARG_WEIGHTS] = p->b, [NV_ARG_Y] = p->c, [NV_ARG_BIAS] = p->bias};
    nv_primitive *primitive;
    const dnnl_status_t status = nv_onednn_find(d, &(nv_primitive_key){describe, &key, sizeof key}, &primitive);
    return status ? status : nv_onednn_execute(d, primitive, data);
}

nabla_status nv_onednn_run(nv_onednn *d, const nv_product *p, nv_error *err) {
    const int threads = omp_get_max_threads();
    omp_set_num_threads(d->threads);
    dnnl_status_t status = execute(d, p);
    omp_set_num_threads(threads);
    if (status == dnnl_success) return NABLA_OK;
    return nv_fail(err, status == dnnl_out_of_memory ? NABLA_OUT_OF_MEMORY : NABLA_INTERNAL,
                   "oneDNN refuses a product of %lld x %lld x %lld: status %d", (long long)p->m, (long long)p->n,
                   (long long)p->k, (int)status);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Primitives, each made once for its key and kept. Scratch memory is one piece for all of them. */
#include "device/cpu/onednn.h"
#include "tensor/arena.h"
#include <stdlib.h>
#include <string.h>

static void destroy(nv_primitive *p) {
    for (int i = 0; i < NV_ARGS; i++)
        if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->pd) dnnl_primitive_desc_destroy(p->pd);
    free(p);
}

void nv_onednn_primitives_destroy(nv_onednn *d) {
    for (int i = 0; i < NV_ONEDNN_BUCKETS; i++)
        for (nv_primitive *p = d->primitives[i], *next; p; p = next) {
            next = p->next;
            destroy(p);
        }
}

static dnnl_status_t reserve(nv_onednn *d, size_t bytes) {
    void *p = NULL;
    if (bytes <= d->scratch_bytes) return dnnl_success;
    if (posix_memalign(&p, NV_ALIGNMENT, bytes)) return dnnl_out_of_memory;
    free(d->scratch);
    d->scratch = p;
    d->scratch_bytes = bytes;
    return dnnl_success;
}

/* The memory of argument i, without its data. The order of weights is the primitive's to say. */
static dnnl_status_t make_memory(nv_onednn *d, nv_primitive *p, int i, const nv_desc *desc) {
    nv_desc_ref ref = NV_DESC_REF(*desc);
    dnnl_status_t status = dnnl_success;
    if (i == NV_ARG_WEIGHTS) ref = dnnl_primitive_desc_query_md(p->pd, dnnl_query_weights_md, 0);
    if (i == NV_ARG_SCRATCH) {
        ref = dnnl_primitive_desc_query_md(p->pd, dnnl_query_scratchpad_md, 0);
        status = reserve(d, dnnl_memory_desc_get_size(ref));
    } else if (!nv_desc_is_set(desc)) {
        return dnnl_success; /* there is no such argument */
    }
    return status ? status : dnnl_memory_create(&p->memory[i], ref, d->engine, DNNL_MEMORY_NONE);
}

static dnnl_status_t make(nv_onednn *d, const nv_primitive_key *key, nv_primitive *p) {
    nv_desc descs[NV_ARGS];
    memset(descs, 0, sizeof descs);
    dnnl_status_t status = key->describe(d, key->bytes, &p->pd, descs);
    if (!status) status = dnnl_primitive_create(&p->primitive, p->pd);
    for (int i = 0; i < NV_ARGS && !status; i++)
        status = make_memory(d, p, i, &descs[i]);
    for (int i = 0; i < NV_ARGS; i++)
        nv_desc_destroy(&descs[i]);
    return status;
}

static nv_primitive **bucket_of(nv_onednn *d, const nv_primitive_key *key) {
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    for (size_t i = 0; i < key->size; i++)
        hash = (hash ^ ((const unsigned char *)key->bytes)[i]) * 1099511628211u;
    return &d->primitives[hash % NV_ONEDNN_BUCKETS];
}

dnnl_status_t nv_onednn_find(nv_onednn *d, const nv_primitive_key *key, nv_primitive **out) {
    nv_primitive **bucket = bucket_of(d, key);
    for (nv_primitive *p = *bucket; p; p = p->next)
        if (p->describe == key->describe && memcmp(p->key, key->bytes, key->size) == 0) {
            *out = p;
            return dnnl_success;
        }
    nv_primitive *p = calloc(1, sizeof *p + key->size);
    if (!p) return dnnl_out_of_memory;
    p->describe = key->describe;
    memcpy(p->key, key->bytes, key->size);
    const dnnl_status_t status = make(d, key, p);
    if (status) {
        destroy(p);
        return status;
    }
    p->next = *bucket;
    *bucket = *out = p;
    return dnnl_success;
}

dnnl_status_t nv_onednn_execute(nv_onednn *d, nv_primitive *p, const void *const data[NV_ARGS]) {
    static const int names[NV_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS,
                                       DNNL_ARG_SCRATCHPAD};
    dnnl_exec_arg_t args[NV_ARGS];
    dnnl_status_t status = dnnl_success;
    int count = 0;
    for (int i = 0; i < NV_ARGS && !status; i++) {
        if (!p->memory[i]) continue;
        const void *at = i == NV_ARG_SCRATCH ? d->scratch : data[i];
        status = dnnl_memory_set_data_handle(p->memory[i], (void *)(uintptr_t)at);
        args[count++] = (dnnl_exec_arg_t){names[i], p->memory[i]};
    }
    if (!status) status = dnnl_primitive_execute(p->primitive, d->stream, count, args);
    return status ? status : dnnl_stream_wait(d->stream);
}

int nv_onednn_has_kernel(nv_onednn *d, const nv_primitive_key *key, char *name, size_t size) {
    nv_desc descs[NV_ARGS];
    dnnl_primitive_desc_t pd = NULL;
    const char *kernel = NULL;
    memset(descs, 0, sizeof descs);
    const int has = key->describe(d, key->bytes, &pd, descs) == dnnl_success &&
                    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &kernel) == dnnl_success &&
                    strncmp(kernel, "ref", 3) != 0;
    if (has && size) {
        const size_t length = strlen(kernel) < size ? strlen(kernel) : size - 1;
        memcpy(name, kernel, length);
        name[length] = '\0';
    }
    if (pd) dnnl_primitive_desc_destroy(pd);
    for (int i = 0; i < NV_ARGS; i++)
        nv_desc_destroy(&descs[i]);
    return has;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* In place of onednn.c in a build without it. */
#include "device/cpu/convolution.h"

nabla_status nv_onednn_create(int32_t threads, nv_onednn **out, nv_error *err) {
    (void)threads;
    (void)err;
    *out = NULL;
    return NABLA_OK;
}

void nv_onednn_destroy(nv_onednn *d) {
    (void)d;
}

int nv_onednn_supports(nv_onednn *d, nabla_dtype dtype, char *name, size_t size) {
    (void)d;
    (void)dtype;
    (void)name;
    (void)size;
    return 0;
}

nabla_status nv_onednn_run(nv_onednn *d, const nv_product *p, nv_error *err) {
    (void)d;
    (void)p;
    return nv_fail(err, NABLA_UNSUPPORTED, "this build has no oneDNN; configure with NABLA_ONEDNN=ON");
}

nabla_status nv_onednn_weights_create(nv_onednn *d, const nv_conv_shape *shape, nabla_dtype dtype, const void *plain,
                                      nv_onednn_weights **out, nv_error *err) {
    (void)d;
    (void)shape;
    (void)dtype;
    (void)plain;
    (void)err;
    *out = NULL;
    return NABLA_OK;
}

void nv_onednn_weights_destroy(nv_onednn_weights *weights) {
    (void)weights;
}

nabla_status nv_onednn_convolve(nv_onednn *d, const nv_conv *c, nv_onednn_weights *weights, nv_error *err) {
    (void)c;
    (void)weights;
    return nv_onednn_run(d, NULL, err);
}

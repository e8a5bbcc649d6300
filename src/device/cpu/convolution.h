/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions by oneDNN behind its C API, as product.h has the matrix products. */
#ifndef NV_CONVOLUTION_H
#define NV_CONVOLUTION_H

#include "device/cpu/product.h"
#include "device/device.h"

/* Weights in oneDNN's order for the sizes that came last. */
typedef struct nv_onednn_weights nv_onednn_weights;

/* *out is NULL where oneDNN has nothing but its reference code for this kind of convolution: ours is faster. */
nabla_status nv_onednn_weights_create(nv_onednn *d, const nv_conv_shape *shape, nabla_dtype dtype, const void *plain,
                                      nv_onednn_weights **out, nv_error *err);
void nv_onednn_weights_destroy(nv_onednn_weights *weights);
/* Of one frame. */
nabla_status nv_onednn_convolve(nv_onednn *d, const nv_conv *c, nv_onednn_weights *weights, nv_error *err);

#endif

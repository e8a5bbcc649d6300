/* SPDX-License-Identifier: Apache-2.0 */
/* A linear layer y = x w^T + bias, as torch keeps it. Several with the same input are one layer when their weights lie
   one after the other (q, k, v). */
#ifndef NV_LINEAR_H
#define NV_LINEAR_H

#include "device/device.h"

typedef struct nv_linear {
    nv_matrix w; /* [out, in] in the compute dtype, or fp32 where the layer is kept precise */
    const float *bias;
    float *d_w, *d_bias;
} nv_linear;

nabla_status nv_linear_forward(nv_device *dev, const nv_linear *l, nv_matrix x, nv_matrix y, nv_error *err);
/* From the input x and d_y: adds to d_w, and writes d_x (data NULL: left out). d_bias NULL: the bias' gradient came out
   of another pass. */
nabla_status nv_linear_backward(nv_device *dev, const nv_linear *l, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                float *d_bias, nv_error *err);

/* What the products of the largest of some layers take inside the device. */
typedef struct nv_linear_size {
    int64_t rows, in, out;
} nv_linear_size;
size_t nv_linear_memory(const nv_device *dev, nabla_dtype dtype, const nv_linear_size *sizes, int count, int backward);

#endif

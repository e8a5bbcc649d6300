/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's products: of a linear layer, and of convolutions as products. */
#ifndef NV_CUDA_PRODUCTS_H
#define NV_CUDA_PRODUCTS_H

#include "device/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

nabla_status nv_cuda_products_open(nv_cuda *d, nv_error *err);
void nv_cuda_products_close(nv_cuda *d);
const char *nv_cuda_products_name(const nv_device *dev, nabla_dtype dtype);

/* choices.c: the algorithms that trials chose. */
nabla_status nv_cuda_choices(nv_device *dev, char **out, nv_error *err);
nabla_status nv_cuda_choose(nv_device *dev, const char *text, int32_t *lost, nv_error *err);

nabla_status nv_cuda_linear(nv_device *dev, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, nv_error *err);
nabla_status nv_cuda_linear_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix w, const float *bias,
                                     nv_matrix y, nv_error *err);
nabla_status nv_cuda_linear_backward_input(nv_device *dev, nv_matrix d_y, nv_matrix w, nv_matrix d_x, int add,
                                           nv_error *err);
nabla_status nv_cuda_linear_backward_weight(nv_device *dev, nv_matrix d_y, nv_matrix x, float *d_w, float *d_bias,
                                            nv_error *err);
/* y (+)= x w^T, in the phase that is. */
nabla_status nv_cuda_multiply(nv_cuda *d, nv_matrix x, nv_matrix w, nv_matrix y, int add, nv_error *err);

nabla_status nv_cuda_conv_weights(nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype, const float *values,
                                  nv_conv_weights **out, nv_error *err);
size_t nv_cuda_conv_weights_bytes(const nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype);
void nv_cuda_conv_weights_release(nv_device *dev, nv_conv_weights *weights);
nabla_status nv_cuda_conv(nv_device *dev, const nv_conv *a, nv_error *err);

/* gather.cu: launchers, which return a cudaError_t. */

/* y [rows, cols] fp32, rows `stride` apart: = bias, or with `add` += bias. */
int nv_cuda_launch_bias(const float *bias, float *y, int64_t rows, int64_t cols, int64_t stride, int add, void *stream);

/* The pixels under the kernel, one row [kernel, kernel, in] an output pixel, zeros beyond the edges: of lines [first,
   first + lines) of the output. */
typedef struct nv_cuda_gather {
    const void *x; /* [height * width, in] */
    void *out;
    int32_t height, width, out_width;
    int64_t first, lines;
    nv_conv_shape shape;
    nabla_dtype dtype;
} nv_cuda_gather;
int nv_cuda_launch_gather(const nv_cuda_gather *a, void *stream);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions as products: the pixels under the kernel are gathered into rows, strip by strip so that they stay small,
   and multiplied by the weights. A kernel of one pixel needs no gathering. */
#include "device/cuda/products.h"
#include "tensor/bf16.h"
#include <stdlib.h>

struct nv_conv_weights {
    nv_conv_shape shape;
    nabla_dtype dtype;
    void *values; /* [out, kernel, kernel, in] in the GPU's memory */
};

static nabla_status put_values(nv_device *dev, nv_conv_weights *w, const float *values, size_t count, nv_error *err) {
    NV_TRY(nv_cuda_take(nv_cuda_of(dev), count * nabla_dtype_size(w->dtype), &w->values, err));
    if (w->dtype == NABLA_FP32) {
        nv_cuda_upload(dev, w->values, values, count * sizeof *values);
        return NABLA_OK;
    }
    nv_bf16 *rounded = malloc(count * sizeof *rounded);
    if (!rounded) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu weights of a convolution", count);
    for (size_t i = 0; i < count; i++)
        rounded[i] = nv_bf16_from_float(values[i]);
    nv_cuda_upload(dev, w->values, rounded, count * sizeof *rounded);
    free(rounded);
    return NABLA_OK;
}

nabla_status nv_cuda_conv_weights(nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype, const float *values,
                                  nv_conv_weights **out, nv_error *err) {
    const size_t count = (size_t)shape->out * (size_t)shape->kernel * (size_t)shape->kernel * (size_t)shape->in;
    *out = NULL;
    nv_conv_weights *w = calloc(1, sizeof *w);
    if (!w) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a convolution");
    w->shape = *shape;
    w->dtype = dtype;
    const nabla_status status = put_values(dev, w, values, count, err);
    if (status == NABLA_OK)
        *out = w;
    else
        nv_cuda_conv_weights_release(dev, w);
    return status;
}

void nv_cuda_conv_weights_release(nv_device *dev, nv_conv_weights *weights) {
    if (!weights) return;
    nv_cuda_release(dev, weights->values);
    free(weights);
}

size_t nv_cuda_conv_weights_bytes(const nv_device *dev, const nv_conv_shape *s, nabla_dtype dtype) {
    (void)dev;
    return (size_t)s->out * (size_t)s->in * (size_t)s->kernel * (size_t)s->kernel * nabla_dtype_size(dtype);
}

static int is_product(const nv_conv_shape *s) {
    return s->kernel == 1 && s->stride == 1 && s->pad_before == 0 && s->pad_after == 0;
}

/* Lines of the output in one go: NV_CUDA_STRIP bytes of gathered pixels, or a line where that is more. */
static nabla_status strips(nv_cuda *d, const nv_conv *a, nv_matrix weights, nv_matrix y, int add, nv_error *err) {
    const nv_conv_shape *s = &a->weights[0]->shape;
    const int64_t height = nv_conv_side(s, a->height), width = nv_conv_side(s, a->width);
    const size_t line = (size_t)(width * weights.cols) * nabla_dtype_size(weights.dtype);
    int64_t most = line < NV_CUDA_STRIP ? (int64_t)(NV_CUDA_STRIP / line) : 1;
    void *columns;
    if (most > height) most = height;
    NV_TRY(nv_cuda_scratch(d, (size_t)most * line, &columns, err));
    for (int64_t first = 0; first < height; first += most) {
        const int64_t lines = height - first < most ? height - first : most;
        const nv_cuda_gather gather = {.x = a->x[0],
                                       .out = columns,
                                       .height = a->height,
                                       .width = a->width,
                                       .out_width = (int32_t)width,
                                       .first = first,
                                       .lines = lines,
                                       .shape = *s,
                                       .dtype = weights.dtype};
        NV_TRY(nv_cuda_check(d, nv_cuda_launch_gather(&gather, d->stream), "gathering pixels", err));
        NV_TRY(nv_cuda_multiply(d, nv_matrix_of(columns, weights.dtype, lines * width, weights.cols), weights,
                                nv_matrix_rows(y, first * width, lines * width), add, err));
    }
    return NABLA_OK;
}

/* A frame's. */
static nabla_status convolve(nv_cuda *d, const nv_conv *a, nv_error *err) {
    const nv_conv_weights *w = a->weights[0];
    const nv_conv_shape *s = &w->shape;
    const int64_t pixels = (int64_t)nv_conv_side(s, a->height) * nv_conv_side(s, a->width);
    const nv_matrix weights = nv_matrix_of(w->values, w->dtype, s->out, (int64_t)s->kernel * s->kernel * s->in),
                    y = nv_matrix_of(a->y, NABLA_FP32, pixels, s->out);
    if (a->bias)
        NV_TRY(nv_cuda_check(d, nv_cuda_launch_bias(a->bias, a->y, pixels, s->out, s->out, a->add, d->stream),
                             "adding a bias", err));
    const int add = a->add || a->bias;
    if (is_product(s)) return nv_cuda_multiply(d, nv_matrix_of(a->x[0], w->dtype, pixels, s->in), weights, y, add, err);
    return strips(d, a, weights, y, add, err);
}

nabla_status nv_cuda_conv(nv_device *dev, const nv_conv *a, nv_error *err) {
    const nv_phase before = nv_cuda_phase(dev, NV_PRODUCTS);
    nabla_status status = NABLA_OK;
    for (int32_t i = 0; i < a->frames && status == NABLA_OK; i++) {
        const nv_conv one = nv_conv_frame(a, i);
        status = convolve(nv_cuda_of(dev), &one, err);
    }
    nv_cuda_phase(dev, before);
    return status;
}

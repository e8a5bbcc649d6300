/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions: Winograd's where there is a kernel for the kind, oneDNN's where it has one, else patches gathered into
   rows (strip by strip, so that they stay small) and our own matrix product. */
#include "device/cpu/convolution.h"
#include "device/cpu/cpu.h"
#include "device/cpu/winograd.h"
#include "tensor/arena.h"
#include "tensor/bf16.h"
#include <stdlib.h>
#include <string.h>

enum { STRIP = 2048 }; /* pixels, or a line where that is longer */

struct nv_conv_weights {
    nv_conv_shape shape;
    nabla_dtype dtype;
    /* one of these */
    nv_winograd_kernel winograd; /* with sums of them */
    nv_onednn_weights *onednn;
    void *plain; /* [out, kernel, kernel, in] */
    void *sums;
};

static nabla_status make_plain(nv_conv_weights *w, const float *values, nv_error *err) {
    const nv_conv_shape *s = &w->shape;
    const size_t count = (size_t)s->out * (size_t)s->kernel * (size_t)s->kernel * (size_t)s->in;
    w->plain = malloc(count * nabla_dtype_size(w->dtype));
    if (!w->plain) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu weights of a convolution", count);
    if (w->dtype == NABLA_FP32) memcpy(w->plain, values, count * sizeof *values);
    for (size_t i = 0; i < count && w->dtype == NABLA_BF16; i++)
        ((nv_bf16 *)w->plain)[i] = nv_bf16_from_float(values[i]);
    return NABLA_OK;
}

static nabla_status make_sums(nv_conv_weights *w, const float *values, nv_error *err) {
    const size_t bytes = nv_winograd_weights_bytes(&w->shape, w->dtype);
    if (posix_memalign(&w->sums, NV_ALIGNMENT, bytes)) {
        w->sums = NULL;
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the %zu bytes of a convolution's weights", bytes);
    }
    nv_winograd_weights(&w->shape, w->dtype, values, w->sums);
    return NABLA_OK;
}

static nabla_status make_weights(nv_cpu *cpu, nv_conv_weights *w, const float *values, nv_error *err) {
    w->winograd = nv_winograd_find(cpu, &w->shape, w->dtype);
    if (w->winograd) return make_sums(w, values, err);
    NV_TRY(make_plain(w, values, err));
    if (cpu->onednn) NV_TRY(nv_onednn_weights_create(cpu->onednn, &w->shape, w->dtype, w->plain, &w->onednn, err));
    if (w->onednn) {
        free(w->plain);
        w->plain = NULL;
    }
    return NABLA_OK;
}

nabla_status nv_cpu_conv_weights(nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype, const float *values,
                                 nv_conv_weights **out, nv_error *err) {
    *out = NULL;
    nv_conv_weights *w = calloc(1, sizeof *w);
    if (!w) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a convolution");
    w->shape = *shape;
    w->dtype = dtype;
    const nabla_status status = make_weights(nv_cpu_of(dev), w, values, err);
    if (status == NABLA_OK)
        *out = w;
    else
        nv_cpu_conv_weights_release(dev, w);
    return status;
}

size_t nv_cpu_conv_weights_bytes(const nv_device *dev, const nv_conv_shape *s, nabla_dtype dtype) {
    if (nv_winograd_find((const nv_cpu *)(const void *)dev, s, dtype)) return nv_winograd_weights_bytes(s, dtype);
    return (size_t)s->out * (size_t)s->in * (size_t)s->kernel * (size_t)s->kernel * nabla_dtype_size(dtype);
}

void nv_cpu_conv_weights_release(nv_device *dev, nv_conv_weights *weights) {
    (void)dev;
    if (!weights) return;
    nv_onednn_weights_destroy(weights->onednn);
    free(weights->plain);
    free(weights->sums);
    free(weights);
}

/* The kernel's pixels under output line y, one row an output pixel. */
static void gather(const nv_conv *a, int64_t y, int64_t width, unsigned char *out) {
    const nv_conv_shape *s = &a->weights[0]->shape;
    const size_t pixel = (size_t)s->in * nabla_dtype_size(a->weights[0]->dtype);
    for (int64_t x = 0; x < width; x++)
        for (int64_t i = 0; i < s->kernel; i++)
            for (int64_t j = 0; j < s->kernel; j++, out += pixel) {
                const int64_t h = y * s->stride + i - s->pad_before, w = x * s->stride + j - s->pad_before;
                if (h < 0 || w < 0 || h >= a->height || w >= a->width)
                    memset(out, 0, pixel);
                else
                    memcpy(out, (const unsigned char *)a->x[0] + (size_t)(h * a->width + w) * pixel, pixel);
            }
}

static nabla_status gathered(nv_cpu *cpu, const nv_conv *a, nv_error *err) {
    const nv_conv_weights *weights = a->weights[0];
    const nv_conv_shape *s = &weights->shape;
    const int64_t height = nv_conv_side(s, a->height), width = nv_conv_side(s, a->width);
    const int64_t k = (int64_t)s->kernel * s->kernel * s->in, lines = width < STRIP ? STRIP / width : 1;
    const size_t line = (size_t)(width * k) * nabla_dtype_size(weights->dtype);
    void *columns;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_COLUMNS, (size_t)lines * line, &columns, err));
    for (int64_t first = 0; first < height; first += lines) {
        const int64_t count = height - first < lines ? height - first : lines;
#pragma omp parallel for num_threads(cpu->base.threads) schedule(static)
        for (int64_t i = 0; i < count; i++)
            gather(a, first + i, width, (unsigned char *)columns + (size_t)i * line);
        const nv_product p = {.m = count * width,
                              .n = s->out,
                              .k = k,
                              .in = weights->dtype,
                              .out = NABLA_FP32,
                              .a = columns,
                              .a_row = k,
                              .a_col = 1,
                              .b = weights->plain,
                              .b_row = 1,
                              .b_col = k,
                              .bias = a->bias,
                              .c = a->y + first * width * s->out,
                              .c_row = s->out,
                              .add = a->add,
                              .count = 1};
        NV_TRY(nv_own_product(cpu, &p, err));
    }
    return NABLA_OK;
}

static nabla_status winograd(nv_cpu *cpu, const nv_conv *a, nv_error *err) {
    const nv_conv_weights *w = a->weights[0];
    nv_winograd_job j = {.in = w->shape.in,
                         .out = w->shape.out,
                         .height = a->height,
                         .width = a->width,
                         .frames = a->frames,
                         .bias = a->bias,
                         .y = a->y,
                         .add = a->add};
    for (int32_t i = 0; i < a->frames; i++) {
        j.x[i] = a->x[i];
        j.u[i] = a->weights[i]->sums;
    }
    return nv_winograd_run(cpu, w->winograd, w->dtype, &j, err);
}

static nabla_status convolve(nv_cpu *cpu, const nv_conv *a, nv_error *err) {
    if (a->weights[0]->winograd) return winograd(cpu, a, err);
    for (int32_t i = 0; i < a->frames; i++) {
        const nv_conv one = nv_conv_frame(a, i);
        nv_onednn_weights *w = one.weights[0]->onednn;
        NV_TRY(w ? nv_onednn_convolve(cpu->onednn, &one, w, err) : gathered(cpu, &one, err));
    }
    return NABLA_OK;
}

nabla_status nv_cpu_conv(nv_device *dev, const nv_conv *a, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    const nv_conv_shape *s = &a->weights[0]->shape;
    const nv_phase before = dev->ops->phase(dev, NV_PRODUCTS);
    const double pixels = (double)nv_conv_side(s, a->height) * (double)nv_conv_side(s, a->width);
    const nabla_status status = convolve(cpu, a, err);
    dev->ops->phase(dev, before);
    /* of the definition, of which Winograd's does half: its rate may be above the peak */
    cpu->clock.product_flop += 2.0 * a->frames * pixels * s->kernel * s->kernel * s->in * s->out;
    return status;
}

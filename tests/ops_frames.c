/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the operations over frames: the VAE's norm, upsampling and convolutions. */
#include "ops_case.h"
#include <math.h>
#include <stdlib.h>

static void norm_one(ops_case *c, int silu) {
    ops_tensor x = ops_random(c, NABLA_FP32, c->rows, c->cols, 3), gamma = ops_flat(c, NABLA_FP32, 1, c->cols, 1),
               y = ops_random(c, c->dtype, c->rows, c->cols, 1);
    for (int64_t i = 0; i < c->cols; i++)
        x.v[i] = 0; /* a row of zeros stays one */
    ops_write(c, x);
    for (int64_t r = 0; r < c->rows; r++) {
        double squares = 0;
        for (int64_t i = 0; i < c->cols; i++)
            squares += x.v[r * c->cols + i] * x.v[r * c->cols + i];
        for (int64_t i = 0; i < c->cols; i++) {
            const double v = x.v[r * c->cols + i] / fmax(sqrt(squares), 1e-12) * sqrt((double)c->cols) * gamma.v[i];
            y.v[r * c->cols + i] = silu ? v / (1 + exp(-v)) : v;
        }
    }
    const nv_channel_norm a = {x.m, y.m, ops_floats(gamma), silu};
    OPS_RUN(c, "channel_norm", (double)(c->rows * c->cols) * 6, c->dev->ops->channel_norm(c->dev, &a, err));
    ops_expect(c, "channel_norm", y, 1);
}

static void upsample_one(ops_case *c) {
    const int32_t height = 5, width = 7;
    ops_tensor x = ops_flat(c, c->dtype, height * width, c->cols, 1), /* so that bf16 is exact */
        from = ops_flat(c, NABLA_FP32, height * width, c->cols, 1),
               y = ops_flat(c, c->dtype, 4 * height * width, c->cols, 1);
    for (int64_t i = 0; i < height * width * c->cols; i++)
        from.v[i] = x.v[i];
    ops_write(c, from);
    for (int64_t i = 0; i < 4 * height * width * c->cols; i++) {
        const int64_t pixel = i / c->cols, h = pixel / (2 * width) / 2, w = pixel % (2 * width) / 2;
        y.v[i] = x.v[(h * width + w) * c->cols + i % c->cols];
    }
    OPS_RUN(c, "upsample", 0, c->dev->ops->upsample(c->dev, ops_floats(from), height, width, y.m, err));
    ops_expect(c, "upsample", y, 0);
}

/* y (+)= bias + the convolution, line by line of the definition. */
static void naive(const nv_conv_shape *s, const ops_tensor *x, const ops_tensor *w, const ops_tensor *bias,
                  ops_tensor *y, int32_t height, int32_t width, int add) {
    const int32_t high = nv_conv_side(s, height), wide = nv_conv_side(s, width);
    for (int64_t i = 0; i < (int64_t)high * wide * s->out; i++) {
        const int64_t out = i % s->out, px = i / s->out % wide, py = i / s->out / wide;
        double sum = (bias ? bias->v[out] : 0) + (add ? y->v[i] : 0);
        for (int32_t ky = 0; ky < s->kernel; ky++)
            for (int32_t kx = 0; kx < s->kernel; kx++) {
                const int64_t h = py * s->stride + ky - s->pad_before, v = px * s->stride + kx - s->pad_before;
                if (h < 0 || v < 0 || h >= height || v >= width) continue;
                for (int32_t k = 0; k < s->in; k++)
                    sum +=
                        x->v[(h * width + v) * s->in + k] * w->v[((out * s->kernel + ky) * s->kernel + kx) * s->in + k];
            }
        y->v[i] = sum;
    }
}

/* The same weights over frames of two sizes, as tiles at an edge want it, and back. */
static void conv_one(ops_case *c, nv_conv_shape s, int32_t height, int32_t width, int with_bias, int add) {
    const nv_device_ops *ops = c->dev->ops;
    const int64_t count = (int64_t)s.out * s.kernel * s.kernel * s.in;
    nv_conv_weights *weights = NULL;
    ops_tensor w = ops_flat(c, c->dtype, 1, count, 1), bias = ops_flat(c, NABLA_FP32, 1, s.out, 1);
    float *values = malloc((size_t)count * sizeof *values);
    if (!values) abort();
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)w.v[i];
    OPS_RUN(c, "conv_weights", 0, ops->conv_weights(c->dev, &s, c->dtype, values, &weights, err));
    free(values);
    for (int32_t round = 0; round < 3 && weights; round++) {
        const int32_t high = height + round % 2 * 3, wide = width - round % 2;
        const int64_t pixels = (int64_t)nv_conv_side(&s, high) * nv_conv_side(&s, wide);
        ops_tensor x = ops_flat(c, c->dtype, (int64_t)high * wide, s.in, 1),
                   y = ops_flat(c, NABLA_FP32, pixels, s.out, 1);
        naive(&s, &x, &w, with_bias ? &bias : NULL, &y, high, wide, add);
        const nv_conv a = {1,  {weights}, {x.m.data}, high, wide, with_bias ? ops_floats(bias) : NULL, ops_floats(y),
                           add};
        OPS_RUN(c, "conv", 0, ops->conv(c->dev, &a, err));
        ops_expect(c, "conv", y, (double)(s.in * s.kernel * s.kernel) * 0.5);
    }
    ops->conv_weights_release(c->dev, weights);
    ops_finish(c);
}

void ops_frames(ops_case *c) {
    norm_one(c, 0);
    norm_one(c, 1);
    ops_finish(c);
    if (!c->perf && c->rows <= 600) upsample_one(c);
}

void ops_conv(ops_case *c) {
    if (c->perf || c->rows > 600) return;
    const int32_t cols = (int32_t)c->cols, many = c->rows == 600 ? 45 : 9;
    conv_one(c, (nv_conv_shape){cols, 20, 3, 1, 1, 1}, many, 2 * many, 1, 0);
    conv_one(c, (nv_conv_shape){3, cols, 3, 1, 1, 1}, many, many - 2, 0, 1);
    conv_one(c, (nv_conv_shape){cols, 3, 3, 2, 0, 1}, many, many, 1, 1);
    conv_one(c, (nv_conv_shape){cols, 6, 1, 1, 0, 0}, many, many + 2, 0, 0);
}

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

/* y += the convolution, by its definition. */
static void naive(const nv_conv_shape *s, const ops_tensor *x, const ops_tensor *w, ops_tensor *y, int32_t height,
                  int32_t width) {
    const int32_t high = nv_conv_side(s, height), wide = nv_conv_side(s, width);
    for (int64_t i = 0; i < (int64_t)high * wide * s->out; i++) {
        const int64_t out = i % s->out, px = i / s->out % wide, py = i / s->out / wide;
        double sum = y->v[i];
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

typedef struct conv_case {
    nv_conv_shape shape;
    int32_t frames, height, width, with_bias, add;
    double limit; /* on how far a sum may be off, in fp32's roundings of numbers near 1 */
} conv_case;

static void conv_frame(ops_case *c, const conv_case *k, const ops_tensor *w, nv_conv_weights *const *weights,
                       int32_t height, int32_t width) {
    const nv_conv_shape *s = &k->shape;
    const int64_t pixels = (int64_t)nv_conv_side(s, height) * nv_conv_side(s, width);
    ops_tensor bias = ops_flat(c, NABLA_FP32, 1, s->out, 1), y = ops_flat(c, NABLA_FP32, pixels, s->out, 1);
    nv_conv a = {.frames = k->frames, .height = height, .width = width, .y = ops_floats(y), .add = k->add};
    if (k->with_bias) a.bias = ops_floats(bias);
    for (int64_t i = 0; i < pixels * s->out; i++)
        y.v[i] = (k->with_bias ? bias.v[i % s->out] : 0) + (k->add ? y.v[i] : 0);
    for (int32_t f = 0; f < k->frames; f++) {
        ops_tensor x = ops_flat(c, c->dtype, (int64_t)height * width, s->in, 1);
        a.weights[f] = weights[f];
        a.x[f] = x.m.data;
        naive(s, &x, &w[f], &y, height, width);
    }
    OPS_RUN(c, "conv", 0, c->dev->ops->conv(c->dev, &a, err));
    ops_expect(c, "conv", y, k->limit);
}

/* The same weights over frames of two sizes, as tiles at an edge want it, and back. */
static void conv_one(ops_case *c, conv_case k) {
    const nv_device_ops *ops = c->dev->ops;
    const int64_t count = (int64_t)k.shape.out * k.shape.kernel * k.shape.kernel * k.shape.in;
    nv_conv_weights *weights[NV_CONV_FRAMES] = {0};
    ops_tensor w[NV_CONV_FRAMES];
    float *values = malloc((size_t)count * sizeof *values);
    if (!values) abort();
    for (int32_t f = 0; f < k.frames; f++) {
        w[f] = ops_flat(c, c->dtype, 1, count, 1);
        for (int64_t i = 0; i < count; i++)
            values[i] = (float)w[f].v[i];
        OPS_RUN(c, "conv_weights", 0, ops->conv_weights(c->dev, &k.shape, c->dtype, values, &weights[f], err));
    }
    free(values);
    for (int32_t round = 0; round < 3 && weights[k.frames - 1]; round++)
        conv_frame(c, &k, w, weights, k.height + round % 2 * 3, k.width - round % 2);
    for (int32_t f = 0; f < k.frames; f++)
        ops->conv_weights_release(c->dev, weights[f]);
    ops_finish(c);
}

static void conv_exact(ops_case *c, conv_case k) {
    k.limit = k.shape.in * k.shape.kernel * k.shape.kernel * 0.5 * k.frames;
    conv_one(c, k);
}

/* Kinds that may be made of sums of pixels and sums of weights, both rounded to bf16. For random numbers the products
   of those are as large as those of 25 / 9 as many pixels and weights, and each of a product's two is rounded. */
static void conv_rounded(ops_case *c, conv_case k) {
    k.shape = (nv_conv_shape){k.shape.in, k.shape.out, 3, 1, 1, 1};
    if (c->dtype == NABLA_FP32) {
        conv_exact(c, k);
        return;
    }
    k.limit = 3.0 / 256 * sqrt(50.0 * k.shape.in * k.frames) / 4e-6;
    conv_one(c, k);
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
    conv_exact(c, (conv_case){{cols, 20, 3, 1, 1, 1}, 1, many, 2 * many, 1, 0, 0});
    conv_exact(c, (conv_case){{3, cols, 3, 1, 1, 1}, 1, many, many - 2, 0, 1, 0});
    conv_exact(c, (conv_case){{cols, 3, 3, 2, 0, 1}, 1, many, many, 1, 1, 0});
    conv_exact(c, (conv_case){{cols, 6, 1, 1, 0, 0}, 3, many, many + 2, 0, 0, 0});
    if (c->rows > 1) return;
    conv_rounded(c, (conv_case){{.in = 96, .out = 112}, 3, 17, 30, 1, 1, 0});
    conv_rounded(c, (conv_case){{.in = 32, .out = 128}, 2, 1, 2, 1, 0, 0});
    conv_rounded(c, (conv_case){{.in = 64, .out = 48}, 1, 8, 65, 0, 0, 0});
}

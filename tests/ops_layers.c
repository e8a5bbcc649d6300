/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the row-wise operations, each beside its formula in plain fp64 loops. */
#include "ops_case.h"
#include <math.h>

static double row_bytes(const ops_case *c, double fp32, double compute) {
    return (double)(c->rows * c->cols) * (4 * fp32 + (c->dtype == NABLA_BF16 ? 2 : 4) * compute);
}

/* ------------------------------------------------------------------------------------------ activations */

/* act(x), and its derivative. */
static double activation(nv_activation act, double x, double *slope) {
    const double k = sqrt(2 / acos(-1.0));
    const double u = act == NV_SILU ? x : 2 * k * (x + 0.044715 * x * x * x);
    const double du = act == NV_SILU ? 1 : 2 * k * (1 + 3 * 0.044715 * x * x), s = 1 / (1 + exp(-u));
    *slope = s + x * s * (1 - s) * du;
    return x * s;
}

void ops_activations(ops_case *c) {
    const nv_device_ops *ops = c->dev->ops;
    for (int i = 0; i < 2; i++) {
        const nv_activation act = i ? NV_SILU : NV_GELU_TANH;
        ops_tensor x = ops_random(c, c->dtype, c->rows, c->cols, 3), y = ops_random(c, c->dtype, c->rows, c->cols, 1),
                   d = ops_random(c, c->dtype, c->rows, c->cols, 1),
                   again = ops_random(c, c->dtype, c->rows, c->cols, 1), bias = ops_flat(c, NABLA_FP32, 1, c->cols, 1);
        for (int64_t at = 0; at < c->rows * c->cols; at++) {
            double slope;
            y.v[at] = again.v[at] = activation(act, x.v[at], &slope);
            d.v[at] *= slope;
            bias.v[at % c->cols] += d.v[at];
        }
        OPS_RUN(c, "activate", row_bytes(c, 0, 2), ops->activate(c->dev, act, x.m, y.m, err));
        ops_expect(c, "activate", y, 1);
        OPS_RUN(c, "activate_backward", row_bytes(c, 0, 4),
                ops->activate_backward(c->dev, act, x.m, d.m, c->perf ? y.m : d.m, again.m, bias.m.data, err));
        ops_expect(c, "activate_backward d_x", d, 4);
        ops_expect(c, "activate_backward again", again, 4);
        ops_expect(c, "activate_backward d_bias", bias, 4.0 * (double)c->rows);
    }
}

/* ------------------------------------------------------------------------------------------ seam */

typedef struct seam_case {
    int has_y, has_gate, normalise, affine, first;
    int forward; /* alone: nothing is saved */
} seam_case;

typedef struct seam_tensors {
    ops_tensor x, y, gate, gain, shift, n, xhat, rstd;
    ops_tensor d_n, d_x, d_y, d_gate, d_gain, d_shift, d_bias;
} seam_tensors;

static seam_tensors seam_make(ops_case *c, const seam_case *k) {
    const int64_t rows = c->rows, dim = c->cols, groups = c->groups, gains = k->affine ? 1 : groups;
    seam_tensors t = {.x = ops_flat(c, NABLA_FP32, rows, dim, 2), .y = ops_random(c, c->dtype, rows, dim, 1)};
    t.gate = ops_flat(c, NABLA_FP32, groups, dim, 0.5);
    t.gain = ops_flat(c, NABLA_FP32, gains, dim, 0.5);
    t.shift = ops_flat(c, NABLA_FP32, gains, dim, 0.5);
    t.n = ops_random(c, c->dtype, rows, dim, 1);
    t.xhat = ops_flat(c, c->dtype, rows, dim, 1);
    t.rstd = ops_flat(c, NABLA_FP32, rows, 1, 1);
    t.d_n = ops_random(c, c->dtype, rows, dim, 1);
    t.d_x = ops_flat(c, NABLA_FP32, rows, dim, 1);
    t.d_y = ops_random(c, c->dtype, rows, dim, 1);
    t.d_gate = ops_flat(c, NABLA_FP32, groups, dim, 1);
    t.d_gain = ops_flat(c, NABLA_FP32, gains, dim, 1);
    t.d_shift = ops_flat(c, NABLA_FP32, gains, dim, 1);
    t.d_bias = ops_flat(c, NABLA_FP32, 1, dim, 1);
    return t;
}

static void seam_naive(const ops_case *c, const seam_case *k, seam_tensors *t) {
    const int64_t dim = c->cols, per = c->rows / c->groups;
    for (int64_t r = 0; r < c->rows; r++) {
        const double *gate = t->gate.v + r / per * dim;
        const int64_t g = k->affine ? 0 : r / per * dim;
        double *x = t->x.v + r * dim, mean = 0, variance = 0;
        for (int64_t i = 0; i < dim; i++) {
            if (k->has_y) x[i] += t->y.v[r * dim + i] * (k->has_gate ? gate[i] : 1);
            mean += x[i] / (double)dim;
        }
        for (int64_t i = 0; i < dim; i++)
            variance += (x[i] - mean) * (x[i] - mean) / (double)dim;
        t->rstd.v[r] = 1 / sqrt(variance + 1e-6);
        for (int64_t i = 0; i < dim; i++) {
            const double xhat = (x[i] - mean) * t->rstd.v[r];
            t->xhat.v[r * dim + i] = xhat;
            t->n.v[r * dim + i] = k->normalise ? xhat * (!k->affine + t->gain.v[g + i]) + t->shift.v[g + i] : x[i];
        }
    }
}

static void seam_naive_backward(const ops_case *c, const seam_case *k, seam_tensors *t) {
    const int64_t dim = c->cols, per = c->rows / c->groups;
    for (int64_t r = 0; r < c->rows; r++) {
        const int64_t group = r / per * dim, g = k->affine ? 0 : group, row = r * dim;
        double h = 0, h_xhat = 0;
        for (int64_t i = 0; i < dim; i++) {
            const double d = t->d_n.v[row + i] * (!k->affine + t->gain.v[g + i]);
            h += d / (double)dim;
            h_xhat += d * t->xhat.v[row + i] / (double)dim;
            t->d_gain.v[g + i] += k->normalise ? t->d_n.v[row + i] * t->xhat.v[row + i] : 0;
            t->d_shift.v[g + i] += k->normalise ? t->d_n.v[row + i] : 0;
        }
        for (int64_t i = 0; i < dim; i++) {
            double d = t->d_n.v[row + i];
            if (k->normalise)
                d = (d * (!k->affine + t->gain.v[g + i]) - h - t->xhat.v[row + i] * h_xhat) * t->rstd.v[r];
            if (k->first) t->d_x.v[row + i] = 0;
            t->d_x.v[row + i] += d;
            t->d_gate.v[group + i] += t->d_x.v[row + i] * t->y.v[row + i];
            t->d_y.v[row + i] = t->d_x.v[row + i] * (k->has_gate ? t->gate.v[group + i] : 1);
            t->d_bias.v[i] += t->d_y.v[row + i];
        }
    }
}

static void seam_one(ops_case *c, const seam_case *k) {
    seam_tensors t = seam_make(c, k);
    const nv_matrix none = {0};
    const int64_t groups = c->groups, rows = c->rows, dim = c->cols;
    const nv_seam a = {.rows = rows,
                       .dim = dim,
                       .group_rows = rows / groups,
                       .x = ops_floats(t.x),
                       .y = k->has_y ? t.y.m : none,
                       .gate = k->has_gate ? ops_floats(t.gate) : NULL,
                       .gate_stride = dim,
                       .normalise = k->normalise,
                       .eps = 1e-6f,
                       .gain_offset = k->affine ? 0 : 1,
                       .gain = ops_floats(t.gain),
                       .shift = ops_floats(t.shift),
                       .gain_stride = k->affine ? 0 : dim,
                       .n = t.n.m,
                       .xhat = k->forward ? NULL : t.xhat.m.data,
                       .rstd = k->forward ? NULL : ops_floats(t.rstd)};
    const nv_seam_grad g = {.d_n = t.d_n.m,
                            .d_x = ops_floats(t.d_x),
                            .first = k->first,
                            .d_y = t.d_y.m,
                            .d_gain = ops_floats(t.d_gain),
                            .d_shift = ops_floats(t.d_shift),
                            .d_gain_stride = k->affine ? 0 : dim,
                            .d_gate = k->has_y ? ops_floats(t.d_gate) : NULL,
                            .d_gate_stride = dim,
                            .d_bias = ops_floats(t.d_bias)};
    if (!c->perf) seam_naive(c, k, &t);
    OPS_RUN(c, "seam", row_bytes(c, 1 + k->has_y, 2 + k->has_y), c->dev->ops->seam(c->dev, &a, err));
    ops_expect(c, "seam x", t.x, 2);
    ops_expect(c, "seam n", t.n, 4);
    if (k->forward) return;
    if (k->normalise) ops_expect(c, "seam xhat", t.xhat, 4);
    if (k->normalise) ops_expect(c, "seam rstd", t.rstd, 1);
    if (k->normalise && !c->perf) ops_read(c, t.xhat); /* backward sees it rounded */
    if (!c->perf) seam_naive_backward(c, k, &t);
    OPS_RUN(c, "seam_backward", row_bytes(c, 2 - k->first, 3 + k->has_y),
            c->dev->ops->seam_backward(c->dev, &a, &g, err));
    ops_expect(c, "seam_backward d_x", t.d_x, 16);
    ops_expect(c, "seam_backward d_y", t.d_y, 16);
    ops_expect(c, "seam_backward d_bias", t.d_bias, 16.0 * (double)rows);
    if (k->has_y) ops_expect(c, "seam_backward d_gate", t.d_gate, 16.0 * (double)rows);
    if (!k->normalise) return;
    ops_expect(c, "seam_backward d_gain", t.d_gain, 16.0 * (double)rows);
    ops_expect(c, "seam_backward d_shift", t.d_shift, 16.0 * (double)rows);
}

void ops_seam(ops_case *c) {
    static const seam_case kinds[] = {
        {1, 1, 1, 0, 0, 0}, {0, 0, 1, 0, 0, 0}, {1, 0, 1, 1, 0, 0},
        {1, 1, 0, 0, 0, 0}, {1, 1, 1, 0, 1, 0}, {1, 1, 1, 0, 0, 1},
    };
    for (size_t i = 0; i < (c->perf ? 1 : sizeof kinds / sizeof *kinds); i++) {
        seam_one(c, &kinds[i]);
        ops_finish(c);
    }
}

/* ------------------------------------------------------------------------------------------ q and k */

static void turn(double *v, const double *angles, int64_t head_dim, double sign) {
    for (int64_t i = 0; i < head_dim; i += 2) {
        const double a = v[i], b = v[i + 1], cosine = angles[i], sine = sign * angles[i + 1];
        v[i] = a * cosine - b * sine;
        v[i + 1] = a * sine + b * cosine;
    }
}

typedef struct qk_tensors {
    ops_tensor x, y, d, weight, rope, rstd, d_weight, d_bias;
} qk_tensors;

static void qk_naive(const ops_case *c, int64_t heads, int64_t tokens, qk_tensors *t) {
    const int64_t dim = c->cols, head_dim = dim / heads;
    for (int64_t r = 0; r < c->rows; r++) {
        double *x = t->x.v + r * dim, *y = t->y.v + r * dim, *d = t->d.v + r * dim, squares = 0, mean = 0;
        const double *angles = t->rope.v + r % tokens * head_dim;
        for (int64_t i = 0; i < dim; i++)
            squares += x[i] * x[i] / (double)dim;
        const double rstd = t->rstd.v[r] = 1 / sqrt(squares + 1e-6);
        for (int64_t i = 0; i < dim; i++)
            y[i] = x[i] * rstd * t->weight.v[i];
        for (int64_t h = 0; tokens > 1 && h < heads; h++) {
            turn(y + h * head_dim, angles, head_dim, 1);
            turn(d + h * head_dim, angles, head_dim, -1);
        }
        for (int64_t i = 0; i < dim; i++)
            mean += d[i] * t->weight.v[i] * x[i] * rstd / (double)dim;
        for (int64_t i = 0; i < dim; i++) {
            t->d_weight.v[i] += d[i] * x[i] * rstd;
            d[i] = (d[i] * t->weight.v[i] - x[i] * rstd * mean) * rstd;
            t->d_bias.v[i] += d[i];
        }
    }
}

static void qk_one(ops_case *c, int64_t heads, int64_t tokens) {
    const nv_device_ops *ops = c->dev->ops;
    qk_tensors t = {.x = ops_random(c, c->dtype, c->rows, c->cols, 2),
                    .y = ops_random(c, c->dtype, c->rows, c->cols, 1)};
    t.d = ops_random(c, c->dtype, c->rows, c->cols, 1);
    t.weight = ops_flat(c, NABLA_FP32, 1, c->cols, 1);
    t.rope = ops_flat(c, NABLA_FP32, tokens, c->cols / heads, 0.7);
    t.rstd = ops_flat(c, NABLA_FP32, c->rows, 1, 1);
    t.d_weight = ops_flat(c, NABLA_FP32, 1, c->cols, 1);
    t.d_bias = ops_flat(c, NABLA_FP32, 1, c->cols, 1);
    const nv_qk_norm a = {.x = t.x.m,
                          .y = t.y.m,
                          .heads = (int32_t)heads,
                          .eps = 1e-6f,
                          .weight = ops_floats(t.weight),
                          .rope = tokens > 1 ? ops_floats(t.rope) : NULL,
                          .tokens = tokens,
                          .rstd = ops_floats(t.rstd)};
    if (!c->perf) qk_naive(c, heads, tokens, &t);
    OPS_RUN(c, "qk_norm", row_bytes(c, 0, 2), ops->qk_norm(c->dev, &a, err));
    ops_expect(c, "qk_norm y", t.y, 8);
    ops_expect(c, "qk_norm rstd", t.rstd, 1);
    OPS_RUN(c, "qk_norm_backward", row_bytes(c, 0, 3),
            ops->qk_norm_backward(c->dev, &a, t.d.m, c->perf ? t.y.m : t.d.m, ops_floats(t.d_weight),
                                  ops_floats(t.d_bias), err));
    ops_expect(c, "qk_norm_backward d_x", t.d, 16);
    ops_expect(c, "qk_norm_backward d_weight", t.d_weight, 16.0 * (double)c->rows);
    ops_expect(c, "qk_norm_backward d_bias", t.d_bias, 16.0 * (double)c->rows);
    if (c->perf) return;
    nv_qk_norm in_place = a;
    in_place.y = a.x;
    in_place.rstd = NULL;
    t.y.m = a.x;
    OPS_RUN(c, "qk_norm", 0, ops->qk_norm(c->dev, &in_place, err));
    ops_expect(c, "qk_norm in place", t.y, 8);
}

void ops_qk_norm(ops_case *c) {
    if (c->cols % 8) return; /* heads are multiples of 8 wide */
    const int64_t heads = c->cols % 3 ? 1 : 3;
    qk_one(c, heads, c->rows / c->groups > 1 ? c->rows / c->groups : 2);
    if (!c->perf) qk_one(c, heads, 1);
}

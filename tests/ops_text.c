/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of what only the text encoder uses: the gate of its feed-forward, softmax with a bias by distance. */
#include "ops_case.h"
#include <math.h>

static void gate_one(ops_case *c, nv_activation act, int in_place) {
    const double size = (double)(c->rows * c->cols) * (c->dtype == NABLA_BF16 ? 2 : 4);
    ops_tensor x = ops_random(c, c->dtype, c->rows, c->cols, 2), z = ops_random(c, c->dtype, c->rows, c->cols, 2),
               y = ops_random(c, c->dtype, c->rows, c->cols, 1);
    double *want = in_place ? x.v : y.v;
    for (int64_t i = 0; i < c->rows * c->cols; i++) {
        const double v = x.v[i], u = act == NV_SILU ? v : 2 * sqrt(2 / acos(-1.0)) * (v + 0.044715 * v * v * v);
        want[i] = v / (1 + exp(-u)) * z.v[i];
    }
    OPS_RUN(c, "gate", 3 * size, c->dev->ops->gate(c->dev, act, x.m, z.m, in_place ? x.m : y.m, err));
    ops_expect(c, "gate", in_place ? x : y, 8);
    ops_finish(c);
}

void ops_gate(ops_case *c) {
    gate_one(c, NV_GELU_TANH, 0);
    if (c->perf) return;
    gate_one(c, NV_SILU, 0);
    gate_one(c, NV_GELU_TANH, 1);
}

/* spread: how far scores lie apart; at 40 most probabilities are next to nothing. */
static void softmax_one(ops_case *c, int64_t rows, int64_t cols, float scale, int has_bias, double spread) {
    const double size = (double)(rows * cols) * (c->dtype == NABLA_BF16 ? 6 : 8);
    ops_tensor s = ops_random(c, NABLA_FP32, rows, cols, spread), p = ops_random(c, c->dtype, rows, cols, 1),
               bias = ops_flat(c, NABLA_FP32, 1, rows + cols - 1, 3);
    for (int64_t i = 0; i < rows && !c->perf; i++) {
        double most = -1e300, sum = 0;
        for (int64_t j = 0; j < cols; j++) {
            double *v = &s.v[i * cols + j];
            *v *= (double)scale;
            if (has_bias) *v += bias.v[j - i + rows - 1];
            most = fmax(most, *v);
        }
        for (int64_t j = 0; j < cols; j++)
            sum += p.v[i * cols + j] = exp(s.v[i * cols + j] - most);
        for (int64_t j = 0; j < cols; j++)
            p.v[i * cols + j] /= sum;
    }
    OPS_RUN(c, "softmax", size, c->dev->ops->softmax(c->dev, s.m, scale, has_bias ? ops_floats(bias) : NULL, p.m, err));
    /* a score rounded to fp32 moves its probability by that much */
    ops_expect(c, "softmax", p, spread > 1 ? spread : 1);
    ops_finish(c);
}

void ops_softmax(ops_case *c) {
    softmax_one(c, c->rows, c->cols, 1.0f, 1, 2);
    if (c->perf) return;
    softmax_one(c, c->rows, c->cols, 1.0f, 0, 40);
    softmax_one(c, c->rows, c->cols, 0.125f, 0, 4);
    if (c->rows == 1) softmax_one(c, 2, 16400, 1.0f, 1, 4); /* longer than a GPU holds in registers */
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ops_case.h"
#include "tensor/bf16.h"
#include "tensor/random.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint16_t gap = 0x7fa5; /* a NaN in both dtypes, that no operation makes */

static void *take(ops_case *c, size_t bytes) {
    void *p = NULL;
    nv_error err = {0};
    if (c->taken == (int)(sizeof c->memory / sizeof *c->memory) ||
        c->dev->ops->allocate(c->dev, bytes, &p, &err) != NABLA_OK)
        abort();
    c->memory[c->taken++] = p;
    return p;
}

double *ops_doubles(ops_case *c, int64_t count) {
    return take(c, (size_t)count * sizeof(double));
}

static ops_tensor make(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, int64_t stride, double scale) {
    ops_tensor t = {.m = nv_matrix_of(take(c, (size_t)(rows * stride) * 4), dtype, rows, cols)};
    nv_philox g = nv_philox_at(7, c->stream++);
    float *numbers = take(c, (size_t)(rows * cols) * sizeof *numbers);
    t.m.stride = stride;
    t.v = ops_doubles(c, rows * cols);
    nv_philox_normal(&g, numbers, (size_t)(rows * cols));
    for (int64_t i = 0; i < rows * stride * (dtype == NABLA_BF16 ? 1 : 2); i++)
        ((uint16_t *)t.m.data)[i] = gap;
    for (int64_t i = 0; i < rows * cols; i++) {
        const int64_t at = i / cols * stride + i % cols;
        float x = (float)scale * numbers[i];
        if (dtype == NABLA_BF16) {
            ((nv_bf16 *)t.m.data)[at] = nv_bf16_from_float(x);
            x = nv_bf16_to_float(nv_bf16_from_float(x));
        } else {
            ((float *)t.m.data)[at] = x;
        }
        t.v[i] = (double)x;
    }
    return t;
}

ops_tensor ops_random(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, double scale) {
    return make(c, dtype, rows, cols, c->perf ? cols : cols + 3, scale);
}

ops_tensor ops_flat(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, double scale) {
    return make(c, dtype, rows, cols, cols, scale);
}

float *ops_floats(ops_tensor t) {
    return t.m.data;
}

void ops_fail(ops_case *c, const char *name, const char *why) {
    c->failures++;
    fprintf(stderr, "FAILED %s: %s: %s\n", c->text, name, why);
}

static double got(nv_matrix m, int64_t at) {
    return m.dtype == NABLA_BF16 ? (double)nv_bf16_to_float(((nv_bf16 *)m.data)[at]) : (double)((float *)m.data)[at];
}

double ops_value(ops_tensor t, int64_t i) {
    return got(t.m, i);
}

void ops_expect(ops_case *c, const char *what, ops_tensor t, double scale) {
    const double rounding = t.m.dtype == NABLA_BF16 ? 1.0 / 256 : 1e-6, sums = 4e-6 * scale;
    char why[160];
    if (c->perf) return;
    for (int64_t r = 0; r < t.m.rows; r++)
        for (int64_t i = 0; i < t.m.stride; i++) {
            const int64_t at = r * t.m.stride + i;
            if (i >= t.m.cols) {
                const size_t size = t.m.dtype == NABLA_BF16 ? 2 : 4;
                if (memcmp((unsigned char *)t.m.data + (size_t)at * size, &gap, 2) == 0) continue;
                snprintf(why, sizeof why, "wrote behind row %lld", (long long)r);
                ops_fail(c, what, why);
                return;
            }
            const double want = t.v[r * t.m.cols + i], have = got(t.m, at);
            if (fabs(have - want) <= rounding * fabs(want) + sums) continue;
            snprintf(why, sizeof why, "[%lld, %lld] is %.9g, not %.9g", (long long)r, (long long)i, have, want);
            ops_fail(c, what, why);
            return;
        }
}

void ops_finish(ops_case *c) {
    for (int i = 0; i < c->taken; i++)
        c->dev->ops->release(c->dev, c->memory[i]);
    c->taken = 0;
}

void ops_report(const ops_case *c, const char *name, double seconds, double bytes) {
    printf("%s,%s,%s,%lld,%lld,%d,%.3f,%.2f,%.1f\n", name, c->dtype == NABLA_BF16 ? "bf16" : "fp32", c->dev->level,
           (long long)c->rows, (long long)c->cols, (int)c->dev->threads, 1e3 * seconds,
           1e9 * seconds / (double)c->rows * (double)c->dev->threads, 1e-9 * bytes / seconds);
}

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

static void *take_host(ops_case *c, size_t bytes) {
    void *p = malloc(bytes);
    if (!p || c->host_taken == (int)(sizeof c->host / sizeof *c->host)) abort();
    c->host[c->host_taken++] = p;
    return p;
}

void *ops_copy(ops_case *c, const void *values, size_t bytes) {
    void *p = take(c, bytes);
    c->dev->ops->upload(c->dev, p, values, bytes);
    return p;
}

int32_t *ops_ints(ops_case *c, const int32_t *values, int64_t count) {
    return ops_copy(c, values, (size_t)count * sizeof *values);
}

void ops_fetch(const ops_case *c, void *values, const void *from, size_t bytes) {
    nv_error err = {0};
    if (c->dev->ops->download(c->dev, values, from, bytes, &err) == NABLA_OK) return;
    fprintf(stderr, "%s: %s\n", c->text, err.text);
    abort();
}

/* A matrix as the device holds it, in the host's memory; the caller frees it. */
static void *image_of(nv_matrix m) {
    void *image = malloc(nv_matrix_bytes(m));
    if (!image) abort();
    return image;
}

static double number(const void *image, nabla_dtype dtype, int64_t at) {
    return dtype == NABLA_BF16 ? (double)nv_bf16_to_float(((const nv_bf16 *)image)[at])
                               : (double)((const float *)image)[at];
}

void ops_write(const ops_case *c, ops_tensor t) {
    uint16_t *image = image_of(t.m);
    for (size_t i = 0; i < nv_matrix_bytes(t.m) / sizeof gap; i++)
        image[i] = gap;
    for (int64_t i = 0; i < t.m.rows * t.m.cols; i++) {
        const int64_t at = i / t.m.cols * t.m.stride + i % t.m.cols;
        const float x = (float)t.v[i];
        if (t.m.dtype == NABLA_BF16)
            image[at] = nv_bf16_from_float(x);
        else
            memcpy(image + 2 * at, &x, sizeof x);
    }
    c->dev->ops->upload(c->dev, t.m.data, image, nv_matrix_bytes(t.m));
    free(image);
}

/* The matrix as it lies on the device. */
static void *fetch(const ops_case *c, nv_matrix m) {
    void *image = image_of(m);
    ops_fetch(c, image, m.data, nv_matrix_bytes(m));
    return image;
}

void ops_read(const ops_case *c, ops_tensor t) {
    void *image = fetch(c, t.m);
    for (int64_t i = 0; i < t.m.rows * t.m.cols; i++)
        t.v[i] = number(image, t.m.dtype, i / t.m.cols * t.m.stride + i % t.m.cols);
    free(image);
}

static ops_tensor make(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, int64_t stride, double scale) {
    ops_tensor t = {.m = nv_matrix_of(NULL, dtype, rows, cols)};
    nv_philox g = nv_philox_at(7, c->stream++);
    float *numbers = take_host(c, (size_t)(rows * cols) * sizeof *numbers);
    t.m.stride = stride;
    t.m.data = take(c, nv_matrix_bytes(t.m));
    t.v = take_host(c, (size_t)(rows * cols) * sizeof *t.v);
    nv_philox_normal(&g, numbers, (size_t)(rows * cols));
    for (int64_t i = 0; i < rows * cols; i++) {
        const float x = (float)scale * numbers[i];
        t.v[i] = (double)(dtype == NABLA_BF16 ? nv_bf16_to_float(nv_bf16_from_float(x)) : x);
    }
    ops_write(c, t);
    return t;
}

ops_tensor ops_random(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, double scale) {
    const int64_t behind = rows % 2 ? 8 : 3; /* 8 keeps rows on the boundaries of wide loads */
    return make(c, dtype, rows, cols, c->perf ? cols : cols + behind, scale);
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

/* "" where all is well, else what is not. */
static void compare(ops_tensor t, const void *image, double scale, char *why, size_t size) {
    const double rounding = t.m.dtype == NABLA_BF16 ? 1.0 / 256 : 1e-6, sums = 4e-6 * scale;
    *why = '\0';
    for (int64_t r = 0; r < t.m.rows; r++)
        for (int64_t i = 0; i < t.m.stride; i++) {
            const int64_t at = r * t.m.stride + i;
            if (i >= t.m.cols) {
                const size_t bytes = t.m.dtype == NABLA_BF16 ? 2 : 4;
                if (memcmp((const unsigned char *)image + (size_t)at * bytes, &gap, sizeof gap) == 0) continue;
                snprintf(why, size, "wrote behind row %lld", (long long)r);
                return;
            }
            const double want = t.v[r * t.m.cols + i], have = number(image, t.m.dtype, at);
            if (fabs(have - want) <= rounding * fabs(want) + sums) continue;
            snprintf(why, size, "[%lld, %lld] is %.9g, not %.9g", (long long)r, (long long)i, have, want);
            return;
        }
}

void ops_expect(ops_case *c, const char *what, ops_tensor t, double scale) {
    char why[160];
    if (c->perf) return;
    void *image = fetch(c, t.m);
    compare(t, image, scale, why, sizeof why);
    free(image);
    if (*why) ops_fail(c, what, why);
}

void ops_expect_bits(ops_case *c, const char *what, ops_tensor t) {
    const int64_t count = t.m.rows * t.m.cols;
    char why[160];
    if (c->perf) return;
    void *image = fetch(c, t.m);
    for (int64_t i = 0; i < count; i++) {
        const double have = number(image, t.m.dtype, i / t.m.cols * t.m.stride + i % t.m.cols);
        if (have == t.v[i]) continue;
        snprintf(why, sizeof why, "number %lld is %.9g, not %.9g", (long long)i, have, t.v[i]);
        ops_fail(c, what, why);
        break;
    }
    free(image);
}

void ops_finish(ops_case *c) {
    for (int i = 0; i < c->taken; i++)
        c->dev->ops->release(c->dev, c->memory[i]);
    for (int i = 0; i < c->host_taken; i++)
        free(c->host[i]);
    c->taken = c->host_taken = 0;
}

void ops_report(const ops_case *c, const char *name, double seconds, double bytes) {
    printf("%s,%s,%s,%lld,%lld,%d,%.3f,%.2f,%.1f\n", name, c->dtype == NABLA_BF16 ? "bf16" : "fp32", c->dev->level,
           (long long)c->rows, (long long)c->cols, (int)c->dev->threads, 1e3 * seconds,
           1e9 * seconds / (double)c->rows * (double)c->dev->threads, 1e-9 * bytes / seconds);
}

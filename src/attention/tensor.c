/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor.h"
#include "device.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPE_TEXT = 128 };

size_t nabla_dtype_size(nabla_dtype dtype) {
    switch (dtype) {
    case NABLA_FP32:
        return 4;
    case NABLA_BF16:
    case NABLA_FP16:
        return 2;
    }
    return 0;
}

static const char *dtype_name(nabla_dtype dtype) {
    switch (dtype) {
    case NABLA_FP32:
        return "fp32";
    case NABLA_BF16:
        return "bf16";
    case NABLA_FP16:
        return "fp16";
    }
    return "of an unknown dtype";
}

const char *nabla_dtype_names(unsigned accept) {
    static const char *const names[] = {"nothing", "fp32",         "bf16",         "fp32 or bf16",
                                        "fp16",    "fp32 or fp16", "bf16 or fp16", "fp32, bf16 or fp16"};
    return names[accept & 7u];
}

nabla_tensor nabla_tensor_contiguous(void *data, nabla_dtype dtype, int32_t rank, const int64_t *shape) {
    nabla_tensor t = {.data = data, .dtype = dtype, .rank = rank};
    int64_t stride = 1;
    for (int32_t i = rank < NABLA_MAX_RANK ? rank - 1 : NABLA_MAX_RANK - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        if (__builtin_mul_overflow(stride, shape[i] > 1 ? shape[i] : 1, &stride))
            stride = INT64_MAX; /* refused by every check below */
    }
    return t;
}

static void shape_text(char text[SHAPE_TEXT], int32_t rank, const int64_t *shape) {
    int n = snprintf(text, SHAPE_TEXT, "[");
    for (int32_t i = 0; i < rank && n < SHAPE_TEXT - 24; i++)
        n += snprintf(text + n, (size_t)(SHAPE_TEXT - n), "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, (size_t)(SHAPE_TEXT - n), "]");
}

/* The last element's byte offset fits, so no address within the tensor wraps. */
static bool extent_fits(const nabla_tensor *t) {
    int64_t extent = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        int64_t span;
        if (t->stride[i] == INT64_MIN || __builtin_mul_overflow(t->shape[i] - 1, llabs(t->stride[i]), &span) ||
            __builtin_add_overflow(extent, span, &extent))
            return false;
    }
    return extent <= PTRDIFF_MAX / 8;
}

/* Sufficient and, for the layouts people make, necessary: by rising stride, each steps over all before it. */
static bool elements_apart(const nabla_tensor *t) {
    int64_t reach = 1;
    bool done[NABLA_MAX_RANK] = {false};
    for (int32_t n = 0; n < t->rank; n++) {
        int32_t least = -1;
        for (int32_t i = 0; i < t->rank; i++)
            if (!done[i] && (least < 0 || llabs(t->stride[i]) < llabs(t->stride[least]))) least = i;
        done[least] = true;
        if (t->shape[least] == 1) continue;
        if (llabs(t->stride[least]) < reach) return false;
        reach += (t->shape[least] - 1) * llabs(t->stride[least]);
    }
    return true;
}

nabla_status nabla_check_view(nabla_context *ctx, const char *name, const nabla_tensor *t, nabla_access access) {
    if (!t) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is NULL", name);
    if (!t->data) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has no data", name);
    if (t->rank < 1 || t->rank > NABLA_MAX_RANK)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has rank %d; use 1 to %d", name, (int)t->rank,
                          NABLA_MAX_RANK);
    size_t element = nabla_dtype_size(t->dtype);
    if (!element)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has dtype %d, which is none of nabla_dtype's", name,
                          (int)t->dtype);
    if ((uintptr_t)t->data % element)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s's data is not aligned to its elements of %zu bytes", name,
                          element);
    for (int32_t i = 0; i < t->rank; i++)
        if (t->shape[i] < 1)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has size %lld in dimension %d; it must be at least 1",
                              name, (long long)t->shape[i], (int)i);
    if (!extent_fits(t))
        return nabla_fail(ctx, NABLA_OVERFLOW, "%s's shape and strides reach past what memory can hold", name);
    if (access == NABLA_WRITE && !elements_apart(t))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "%s's strides let elements share memory, and it is written; give each element its own", name);
    return ctx->ops->check_data(ctx, name, t->data);
}

nabla_status nabla_check_tensor(nabla_context *ctx, const char *name, const nabla_tensor *t, unsigned accept,
                                int32_t rank, const int64_t *shape, nabla_access access) {
    nabla_status status = nabla_check_view(ctx, name, t, access);
    if (status) return status;
    if (t->rank != rank)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has rank %d; it must be %d", name, (int)t->rank, (int)rank);
    if (memcmp(t->shape, shape, (size_t)rank * sizeof *shape)) {
        char has[SHAPE_TEXT], needs[SHAPE_TEXT];
        shape_text(has, t->rank, t->shape);
        shape_text(needs, rank, shape);
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has shape %s; it must be %s", name, has, needs);
    }
    if (!(accept >> t->dtype & 1u))
        return nabla_fail(ctx, ctx->ops->accept >> t->dtype & 1u ? NABLA_INVALID_ARGUMENT : NABLA_UNSUPPORTED,
                          "%s is %s; it must be %s here", name, dtype_name(t->dtype), nabla_dtype_names(accept));
    if (t->stride[rank - 1] != 1 && t->shape[rank - 1] > 1)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s has stride %lld in its last dimension; it must be 1", name,
                          (long long)t->stride[rank - 1]);
    return NABLA_OK;
}

nabla_status nabla_check_head_dim(nabla_context *ctx, int64_t head_dim) {
    if (head_dim >= 16 && head_dim <= 256 && head_dim % 8 == 0) return NABLA_OK;
    return nabla_fail(ctx, NABLA_UNSUPPORTED, "head dim %lld is not supported; use 16 to 256 in steps of 8",
                      (long long)head_dim);
}

nabla_status nabla_check_scale(nabla_context *ctx, float scale, int64_t head_dim, float *out) {
    if (!isfinite(scale))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "scale is %g; use a finite number, or 0 for 1 / sqrt(D)",
                          (double)scale);
    *out = scale != 0.0f ? scale : (float)(1.0 / sqrt((double)head_dim));
    return NABLA_OK;
}

void *nabla_tensor_at(const nabla_tensor *t, int64_t i0, int64_t i1, int64_t i2) {
    int64_t offset = i0 * t->stride[0] + i1 * t->stride[1] + i2 * t->stride[2];
    return (char *)t->data + offset * (int64_t)nabla_dtype_size(t->dtype);
}

nabla_rows nabla_tensor_rows(const nabla_tensor *t, int64_t b, int64_t h) {
    return (nabla_rows){.data = nabla_tensor_at(t, b, 0, h), .stride = t->stride[1]};
}

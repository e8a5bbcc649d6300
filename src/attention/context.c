/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"
#include "device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nabla_context_options nabla_context_options_default(void) {
    return (nabla_context_options){.size = sizeof(nabla_context_options), .device = NABLA_CPU};
}

static void clean(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

nabla_status nabla_fail(nabla_context *ctx, nabla_status status, const char *format, ...) {
    if (!ctx) return status;
    va_list args;
    va_start(args, format);
    vsnprintf(ctx->message, sizeof ctx->message, format, args);
    va_end(args);
    clean(ctx->message);
    return status;
}

nabla_status nabla_check_struct(nabla_context *ctx, const char *type, size_t size, size_t expected) {
    if (size == expected) return NABLA_OK;
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                      "%s.size is %zu and this library's is %zu; set it by the type's default function or sizeof", type,
                      size, expected);
}

nabla_status nabla_check_place(nabla_context *ctx, const char *what, nabla_place place) {
    if (ctx->place.device == place.device && ctx->place.ordinal == place.ordinal) return NABLA_OK;
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s was made by a context of another device; make one by this",
                      what);
}

static nabla_status setup(nabla_context *ctx, const nabla_context_options *options) {
    nabla_status status =
        nabla_check_struct(ctx, "nabla_context_options", options->size, sizeof(nabla_context_options));
    if (status) return status;
    if (options->device != NABLA_CPU && options->device != NABLA_CUDA)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "device %d is unknown; use NABLA_CPU or NABLA_CUDA",
                          (int)options->device);
    ctx->place.device = options->device;
    ctx->ops = options->device == NABLA_CUDA ? &nabla_cuda_ops : &nabla_cpu_ops;
    status = ctx->ops->open(ctx, options);
    if (!status && options->memory_reserve) status = ctx->ops->reserve(ctx, options->memory_reserve);
    return status;
}

nabla_status nabla_context_create(const nabla_context_options *options, nabla_context **out, char *message,
                                  size_t message_size) {
    const nabla_context_options defaults = nabla_context_options_default();
    const char *reason = "out is NULL";
    nabla_status status = NABLA_INVALID_ARGUMENT;
    nabla_context *ctx = NULL;
    if (out) {
        *out = NULL;
        ctx = calloc(1, sizeof *ctx);
        reason = ctx ? ctx->message : "no memory for a context";
        status = ctx ? setup(ctx, options ? options : &defaults) : NABLA_OUT_OF_MEMORY;
    }
    if (message && message_size) snprintf(message, message_size, "%s", status ? reason : "");
    if (status)
        nabla_context_destroy(ctx);
    else
        *out = ctx;
    return status;
}

void nabla_context_destroy(nabla_context *ctx) {
    if (!ctx) return;
    if (ctx->ops) ctx->ops->close(ctx);
    free(ctx);
}

const char *nabla_context_message(const nabla_context *ctx) {
    return ctx ? ctx->message : "";
}

const char *nabla_context_level(const nabla_context *ctx) {
    return ctx ? ctx->level : "";
}

int32_t nabla_context_threads(const nabla_context *ctx) {
    return ctx ? ctx->threads : 0;
}

nabla_device nabla_context_device(const nabla_context *ctx) {
    return ctx ? ctx->place.device : NABLA_CPU;
}

nabla_status nabla_context_synchronize(nabla_context *ctx) {
    return ctx ? ctx->ops->synchronize(ctx) : NABLA_INVALID_ARGUMENT;
}

nabla_status nabla_context_reserve(nabla_context *ctx, size_t bytes) {
    return ctx ? ctx->ops->reserve(ctx, bytes) : NABLA_INVALID_ARGUMENT;
}

nabla_status nabla_context_trim(nabla_context *ctx) {
    return ctx ? ctx->ops->trim(ctx) : NABLA_INVALID_ARGUMENT;
}

size_t nabla_context_reserved(const nabla_context *ctx) {
    return ctx ? ctx->ops->reserved(ctx) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a context's device for callers without CUDA's headers, and which devices there are. */
#include "device.h"

#include <stdio.h>

nabla_status nabla_memory_allocate(nabla_context *ctx, size_t bytes, void **out) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (!out) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    if (bytes > PTRDIFF_MAX) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
    return ctx->ops->allocate(ctx, bytes ? bytes : 1, out);
}

void nabla_memory_free(nabla_context *ctx, void *memory) {
    if (ctx && memory) ctx->ops->release(ctx, memory);
}

static nabla_status check_copy(nabla_context *ctx, const void *to, const void *from, size_t bytes) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (bytes && (!to || !from)) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is NULL", to ? "from" : "to");
    return NABLA_OK;
}

nabla_status nabla_memory_upload(nabla_context *ctx, void *to, const void *from, size_t bytes) {
    const nabla_status status = check_copy(ctx, to, from, bytes);
    return status || !bytes ? status : ctx->ops->upload(ctx, to, from, bytes);
}

nabla_status nabla_memory_download(nabla_context *ctx, void *to, const void *from, size_t bytes) {
    const nabla_status status = check_copy(ctx, to, from, bytes);
    return status || !bytes ? status : ctx->ops->download(ctx, to, from, bytes);
}

int32_t nabla_device_count(nabla_device device) {
    return device == NABLA_CPU ? 1 : device == NABLA_CUDA ? nabla_cuda_device_count(NULL, 0) : 0;
}

static nabla_status describe(nabla_device device, int32_t ordinal, nabla_device_info *info, char *message,
                             size_t message_size) {
    const size_t size = sizeof *info;
    if (!info || info->size != size) {
        snprintf(message, message_size,
                 info ? "nabla_device_info.size is not this library's; set it by sizeof" : "info is NULL");
        return NABLA_INVALID_ARGUMENT;
    }
    *info = (nabla_device_info){.size = size, .level = ""};
    if (device == NABLA_CUDA) return nabla_cuda_describe(ordinal, info, message, message_size);
    if (device == NABLA_CPU && ordinal == 0) return nabla_cpu_describe(info);
    snprintf(message, message_size, "there is no device %d:%d", (int)device, (int)ordinal);
    return NABLA_INVALID_ARGUMENT;
}

nabla_status nabla_device_describe(nabla_device device, int32_t ordinal, nabla_device_info *info, char *message,
                                   size_t message_size) {
    char reason[256] = "";
    const nabla_status status = describe(device, ordinal, info, reason, sizeof reason);
    if (message && message_size) snprintf(message, message_size, "%s", reason);
    return status;
}

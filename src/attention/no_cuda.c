/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU of a build without CUDA: contexts of it are refused, so nothing else is ever asked of it. */
#include "device.h"

#include <stdio.h>

static nabla_status open_context(nabla_context *ctx, const nabla_context_options *options) {
    (void)options;
    return nabla_fail(ctx, NABLA_UNSUPPORTED, "this build has no CUDA; use device NABLA_CPU");
}

static void close_context(nabla_context *ctx) {
    (void)ctx;
}

const nabla_device_ops nabla_cuda_ops = {.name = "a GPU", .open = open_context, .close = close_context};

int32_t nabla_cuda_device_count(char *message, size_t message_size) {
    if (message_size) snprintf(message, message_size, "this build has no CUDA");
    return 0;
}

nabla_status nabla_cuda_describe(int32_t ordinal, nabla_device_info *info, char *message, size_t message_size) {
    (void)ordinal;
    (void)info;
    nabla_cuda_device_count(message, message_size);
    return NABLA_UNSUPPORTED;
}

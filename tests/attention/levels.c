/* SPDX-License-Identifier: Apache-2.0 */
#include "levels.h"

#include <stdio.h>
#include <string.h>

static const char *const gpu_levels[] = {"sm80", "sm90"};
enum { GPU_LEVELS = 2 };

/* How many of them GPU 0 has, and otherwise why none. */
static int32_t gpu_count(char *reason, size_t size) {
    static nabla_device_info info;
    if (!info.size) { /* asked once */
        info.size = sizeof info;
        if (nabla_device_describe(NABLA_CUDA, 0, &info, reason, size)) {
            info.size = 0;
            return 0;
        }
    }
    for (int32_t i = 0; i < GPU_LEVELS; i++)
        if (!strcmp(info.level, gpu_levels[i])) return i + 1;
    snprintf(reason, size, "no GPU: %s is too old", info.name);
    return 0;
}

const char *level_name(int32_t i) {
    char reason[256];
    int32_t cpu = 0;
    while (nabla_level_name(cpu))
        cpu++;
    if (i < cpu) return nabla_level_name(i);
    return i - cpu < gpu_count(reason, sizeof reason) ? gpu_levels[i - cpu] : NULL;
}

bool level_on_gpu(const char *level) {
    for (int32_t i = 0; i < GPU_LEVELS; i++)
        if (!strcmp(level, gpu_levels[i])) return true;
    return false;
}

bool level_wanted(const char *level, const char *only) {
    if (!only || !strcmp(level, only)) return true;
    return !strcmp(only, level_on_gpu(level) ? "cuda" : "cpu");
}

bool level_takes(const char *level, nabla_dtype dtype) {
    return dtype != NABLA_FP16 || level_on_gpu(level);
}

void level_print_missing(const char *only) {
    char reason[256] = "";
    if (only && strcmp(only, "cuda") && !level_on_gpu(only)) return;
    if (!gpu_count(reason, sizeof reason)) printf("%s%s\n", strncmp(reason, "no GPU", 6) ? "no GPU: " : "", reason);
}

nabla_status level_context(const char *level, int32_t threads, nabla_context **out) {
    nabla_context_options options = nabla_context_options_default();
    options.device = level_on_gpu(level) ? NABLA_CUDA : NABLA_CPU;
    options.level = level;
    options.threads = threads;
    return nabla_context_create(&options, out, NULL, 0);
}

const char *dtype_text(nabla_dtype dtype) {
    return dtype == NABLA_FP32 ? "fp32" : dtype == NABLA_BF16 ? "bf16" : "fp16";
}

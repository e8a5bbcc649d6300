/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of a GPU share: a context of it, one of the CPU to compare with, and memory that goes to and fro. */
#ifndef CUDA_FIXTURE_H
#define CUDA_FIXTURE_H

#include "check.h"

#include "nabla/nabla.h"
#include "naive.h"
#include "noise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nabla_context *cpu, *gpu;

static inline int setup(void **state) {
    nabla_context_options options = nabla_context_options_default();
    (void)state;
    if (nabla_context_create(&options, &cpu, NULL, 0)) return 1;
    options.device = NABLA_CUDA;
    return nabla_context_create(&options, &gpu, NULL, 0) != NABLA_OK;
}

static inline int teardown(void **state) {
    (void)state;
    nabla_context_destroy(gpu);
    nabla_context_destroy(cpu);
    return 0;
}

/* Without a GPU a test says so and is done. */
static inline int no_gpu(void) {
    nabla_device_info info = {.size = sizeof info};
    char reason[256];
    if (!nabla_device_describe(NABLA_CUDA, 0, &info, reason, sizeof reason) && *info.level) return 0;
    printf("%s: nothing to test\n", *info.name ? info.name : reason);
    return 1;
}

static inline void check_ok(nabla_context *ctx, nabla_status status, const char *call) {
    if (status) print_error("%s: %s\n", call, nabla_context_message(ctx));
    assert_int_equal(status, NABLA_OK);
}
#define ok_on(ctx, call) check_ok(ctx, call, #call)

static inline void refuse_on(nabla_context *ctx, nabla_status got, nabla_status wanted, const char *message) {
    assert_int_equal(got, wanted);
    assert_string_equal(nabla_context_message(ctx), message);
}

/* A copy in GPU memory, the caller's to free; and back, into malloc's memory. */
static inline void *up(const void *host, size_t bytes) {
    void *memory;
    ok_on(gpu, nabla_memory_allocate(gpu, bytes, &memory));
    if (host) ok_on(gpu, nabla_memory_upload(gpu, memory, host, bytes));
    return memory;
}

static inline void *down(const void *memory, size_t bytes) {
    void *host = malloc(bytes);
    ok_on(gpu, nabla_memory_download(gpu, host, memory, bytes));
    return host;
}

/* Floats that dtype holds exactly, narrowed, in GPU memory. */
static inline void *up_as(const float *x, size_t n, nabla_dtype dtype) {
    if (dtype == NABLA_FP32) return up(x, n * sizeof *x);
    uint16_t *narrow = malloc(n * sizeof *narrow);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        narrow[i] = dtype == NABLA_BF16 ? (uint16_t)(bits >> 16) : naive_fp16_bits(x[i]);
    }
    void *memory = up(narrow, n * sizeof *narrow);
    free(narrow);
    return memory;
}

static inline float *rounded_noise(size_t n, unsigned seed, nabla_dtype dtype) {
    float *x = noise(n, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = naive_round(2.0f * x[i] + (float)(i / 1024 % 7) * 0.1f, dtype);
    return x;
}

static inline nabla_order *order_on(nabla_context *ctx, nabla_grid grid) {
    nabla_order *order;
    ok_on(ctx, nabla_order_create(ctx, &grid, &order));
    return order;
}

static inline nabla_policy parse(const char *text) {
    nabla_policy policy;
    ok_on(cpu, nabla_policy_parse(cpu, text, &policy));
    return policy;
}

static inline uint8_t *bitmap_of(nabla_context *ctx, const nabla_plan *plan, int64_t heads, nabla_plan_stats *stats) {
    *stats = (nabla_plan_stats){.size = sizeof *stats};
    ok_on(ctx, nabla_plan_get_stats(ctx, plan, stats));
    uint8_t *bytes = malloc((size_t)(heads * stats->q_blocks * stats->k_blocks));
    ok_on(ctx, nabla_plan_export_bitmap(ctx, plan, bytes));
    return bytes;
}

#endif

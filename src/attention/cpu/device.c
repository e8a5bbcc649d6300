/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU as a device. Calls are done when they return, so there is nothing to wait for. */
#include "cpu.h"
#include "layout.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_THREADS = 4096 };

static nabla_status open_context(nabla_context *ctx, const nabla_context_options *options) {
    if (options->threads < 0 || options->threads > MAX_THREADS)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "threads is %d; use 1 to %d, or 0 for every processor",
                          (int)options->threads, MAX_THREADS);
    ctx->threads = options->threads ? options->threads : omp_get_num_procs();
    char reason[sizeof ctx->message] = "";
    const nabla_status status = nabla_kernels_select(options->level, &ctx->kernels, reason, sizeof reason);
    ctx->level = ctx->kernels.level;
    return status ? nabla_fail(ctx, status, "%s", reason) : NABLA_OK;
}

static void close_context(nabla_context *ctx) {
    free(ctx->scratch);
}

static nabla_status synchronize(nabla_context *ctx) {
    (void)ctx;
    return NABLA_OK;
}

static size_t rounded(size_t bytes) {
    return (bytes + NABLA_ALIGN - 1) & ~(size_t)(NABLA_ALIGN - 1);
}

/* A large block begins at a huge page and asks for such, so that the processor knows where its pages are: a
   twenty-fifth of the time of forward pairs in tiles. */
static void *take(size_t bytes) {
    const size_t huge_page = (size_t)2 << 20;
    void *at;
    if (posix_memalign(&at, bytes < huge_page ? NABLA_ALIGN : huge_page, rounded(bytes))) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= huge_page) madvise(at, rounded(bytes), MADV_HUGEPAGE); /* advice: if refused, nothing is lost */
#endif
    return at;
}

nabla_status nabla_context_scratch(nabla_context *ctx, size_t bytes, void **out) {
    *out = NULL;
    if (bytes > ctx->scratch_size) {
        free(ctx->scratch);
        ctx->scratch_size = 0;
        ctx->scratch = take(bytes);
        if (!ctx->scratch) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes of scratch", bytes);
        ctx->scratch_size = bytes;
    }
    *out = ctx->scratch;
    return NABLA_OK;
}

static nabla_status reserve(nabla_context *ctx, size_t bytes) {
    void *scratch;
    if (bytes > PTRDIFF_MAX) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes of scratch", bytes);
    return nabla_context_scratch(ctx, bytes, &scratch);
}

static size_t reserved(const nabla_context *ctx) {
    return ctx->scratch_size;
}

static nabla_status trim(nabla_context *ctx) {
    free(ctx->scratch);
    ctx->scratch = NULL;
    ctx->scratch_size = 0;
    return NABLA_OK;
}

static nabla_status allocate(nabla_context *ctx, size_t bytes, void **out) {
    *out = take(bytes);
    return *out ? NABLA_OK : nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
}

static void release(nabla_context *ctx, void *memory) {
    (void)ctx;
    free(memory);
}

static nabla_status copy(nabla_context *ctx, void *to, const void *from, size_t bytes) {
    (void)ctx;
    memcpy(to, from, bytes);
    return NABLA_OK;
}

static nabla_status check_data(nabla_context *ctx, const char *name, const void *data) {
    (void)ctx;
    (void)name;
    (void)data;
    return NABLA_OK;
}

static nabla_status order_open(nabla_context *ctx, nabla_order *order) {
    (void)ctx;
    (void)order;
    return NABLA_OK;
}

static void order_close(nabla_order *order) {
    (void)order;
}

nabla_status nabla_cpu_describe(nabla_device_info *info) {
    nabla_kernels best;
    if (nabla_kernels_select(NULL, &best, info->name, sizeof info->name)) /* NABLA_CPU may name none */
        nabla_kernels_select("generic", &best, info->name, sizeof info->name);
    info->name[0] = '\0';
    info->level = best.level;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    info->memory_total = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    info->memory_free = (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
    info->multiprocessors = omp_get_num_procs();
    return NABLA_OK;
}

const nabla_device_ops nabla_cpu_ops = {
    .name = "the CPU",
    .accept = NABLA_ACCEPT_FP32 | NABLA_ACCEPT_BF16,
    .open = open_context,
    .close = close_context,
    .synchronize = synchronize,
    .reserve = reserve,
    .reserved = reserved,
    .trim = trim,
    .allocate = allocate,
    .release = release,
    .upload = copy,
    .download = copy,
    .check_data = check_data,
    .order_open = order_open,
    .order_close = order_close,
    .permute = nabla_cpu_permute,
    .merge = nabla_cpu_merge,
    .plan_bytes = nabla_cpu_plan_bytes,
    .plan_open = nabla_cpu_plan_open,
    .plan_close = nabla_cpu_plan_close,
    .build_memory = nabla_cpu_build_memory,
    .build = nabla_cpu_build,
    .export_lists = nabla_cpu_export_lists,
    .import_lists = nabla_cpu_import_lists,
    .export_bitmap = nabla_cpu_export_bitmap,
    .import_bitmap = nabla_cpu_import_bitmap,
    .count = nabla_cpu_count,
    .count_pairs = nabla_cpu_count_pairs,
    .forward_memory = nabla_cpu_forward_memory,
    .backward_memory = nabla_cpu_backward_memory,
    .forward = nabla_cpu_forward,
    .backward = nabla_cpu_backward,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs as devices: which there are, contexts of them, and the device table. Every entry of the table makes the
   context's GPU current and puts the caller's back, so that one thread may use contexts of several GPUs. */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which GPUs there are */

static void explain(cudaError_t error, char *message, size_t message_size) {
    int driver = 0;
    cudaGetLastError(); /* it is told here, and not by the next call */
    if (!message_size) return;
    if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
        snprintf(message, message_size, "no GPU: this machine has no NVIDIA driver");
    else
        snprintf(message, message_size, "no GPU: %s", cudaGetErrorString(error));
}

int32_t nabla_cuda_device_count(char *message, size_t message_size) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    explain(error == cudaSuccess ? cudaErrorNoDevice : error, message, message_size);
    return 0;
}

static int attribute(int32_t ordinal, enum cudaDeviceAttr which) {
    int value = 0;
    return cudaDeviceGetAttribute(&value, which, ordinal) == cudaSuccess ? value : 0;
}

/* Levels in rising order. */
static const struct level {
    const char *name;
    int32_t capability;
} levels[] = {{"sm80", 80}, {"sm90", 90}};
enum { LEVELS = sizeof levels / sizeof levels[0] };

/* How many of the levels run there: wgmma and setmaxnreg are sm_90a's, which is no other capability's. */
static int32_t levels_of(int32_t major, int32_t minor) {
    return major < 8 ? 0 : major == 9 && minor == 0 ? 2 : 1;
}

static nabla_status check_ordinal(int32_t ordinal, char *message, size_t message_size) {
    const int32_t count = nabla_cuda_device_count(message, message_size);
    if (!count) return NABLA_UNSUPPORTED;
    if (ordinal >= 0 && ordinal < count) return NABLA_OK;
    if (message_size)
        snprintf(message, message_size, "there is no GPU %d; this machine has %d, numbered from 0", (int)ordinal,
                 (int)count);
    return NABLA_INVALID_ARGUMENT;
}

nabla_status nabla_cuda_describe(int32_t ordinal, nabla_device_info *info, char *message, size_t message_size) {
    struct cudaDeviceProp properties;
    int before = -1;
    const nabla_status status = check_ordinal(ordinal, message, message_size);
    if (status) return status;
    cudaError_t error = cudaGetDevice(&before);
    if (!error) error = cudaGetDeviceProperties(&properties, ordinal);
    if (!error) error = cudaSetDevice(ordinal);
    if (!error) error = cudaMemGetInfo(&info->memory_free, &info->memory_total);
    if (before >= 0) cudaSetDevice(before);
    if (error) {
        if (message_size) snprintf(message, message_size, "GPU %d: %s", (int)ordinal, cudaGetErrorString(error));
        cudaGetLastError();
        return NABLA_UNSUPPORTED;
    }
    snprintf(info->name, sizeof info->name, "%.127s", properties.name);
    info->capability_major = properties.major;
    info->capability_minor = properties.minor;
    info->multiprocessors = properties.multiProcessorCount;
    const int32_t runs = levels_of(properties.major, properties.minor);
    info->level = runs ? levels[runs - 1].name : "";
    return NABLA_OK;
}

/* ---- contexts */

nabla_status nabla_cuda_check(nabla_context *ctx, int error, const char *doing) {
    if (error == cudaSuccess) return NABLA_OK;
    cudaGetLastError();
    return nabla_fail(ctx, error == cudaErrorMemoryAllocation ? NABLA_OUT_OF_MEMORY : NABLA_INTERNAL,
                      "%s on GPU %d: %s", doing, (int)ctx->place.ordinal, cudaGetErrorString((cudaError_t)error));
}

nabla_status nabla_cuda_wait(nabla_context *ctx, const char *doing) {
    enum cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    const nabla_status status = nabla_cuda_check(ctx, cudaStreamIsCapturing(ctx->cuda->stream, &capturing), doing);
    if (status) return status;
    if (capturing != cudaStreamCaptureStatusNone)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "%s waits for the GPU, and the context's stream is being captured in a graph", doing);
    return nabla_cuda_check(ctx, cudaStreamSynchronize(ctx->cuda->stream), doing);
}

/* Which kernels run: the best, or those asked for. */
static nabla_status choose_level(nabla_context *ctx, const char *wanted) {
    const int32_t ordinal = ctx->place.ordinal;
    const int32_t major = attribute(ordinal, cudaDevAttrComputeCapabilityMajor);
    const int32_t minor = attribute(ordinal, cudaDevAttrComputeCapabilityMinor), runs = levels_of(major, minor);
    if (!runs)
        return nabla_fail(ctx, NABLA_UNSUPPORTED, "GPU %d has compute capability %d.%d; 8.0 is the least", (int)ordinal,
                          (int)major, (int)minor);
    for (int32_t i = runs - 1; i >= 0; i--)
        if (!wanted || !strcmp(wanted, levels[i].name)) {
            ctx->level = levels[i].name;
            ctx->cuda->capability = levels[i].capability;
            return NABLA_OK;
        }
    return nabla_fail(ctx, NABLA_UNSUPPORTED,
                      "level '%.40s' is not a level of GPU %d, of compute capability %d.%d; it has sm80%s", wanted,
                      (int)ordinal, (int)major, (int)minor, runs > 1 ? ", sm90" : "");
}

static nabla_status open_pool(nabla_context *ctx, void *given) {
    const struct cudaMemPoolProps properties = {.allocType = cudaMemAllocationTypePinned,
                                                .location = {cudaMemLocationTypeDevice, ctx->place.ordinal}};
    unsigned long long keep = UINT64_MAX; /* what is freed stays ours: plans of one size come and go */
    if (!attribute(ctx->place.ordinal, cudaDevAttrMemoryPoolsSupported))
        return nabla_fail(ctx, NABLA_UNSUPPORTED, "GPU %d has no memory pools (cudaMallocAsync)",
                          (int)ctx->place.ordinal);
    ctx->cuda->pool = given;
    ctx->cuda->own_pool = !given;
    if (given) return NABLA_OK;
    cudaError_t error = cudaMemPoolCreate(&ctx->cuda->pool, &properties);
    if (!error) error = cudaMemPoolSetAttribute(ctx->cuda->pool, cudaMemPoolAttrReleaseThreshold, &keep);
    return nabla_cuda_check(ctx, error, "making a memory pool");
}

static nabla_status open_here(nabla_context *ctx, const nabla_context_options *options) {
    nabla_cuda_state *s = ctx->cuda;
    nabla_status status = choose_level(ctx, options->level);
    if (!status) status = open_pool(ctx, options->memory_pool);
    if (status) return status;
    s->limit = options->memory_limit;
    s->processors = attribute(ctx->place.ordinal, cudaDevAttrMultiProcessorCount);
    s->stream = options->stream;
    s->own_stream = !options->stream;
    if (s->own_stream)
        status = nabla_cuda_check(ctx, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), "making a stream");
    if (status) {
        s->own_stream = false;
        return status;
    }
    return nabla_cuda_imports_open(ctx);
}

/* ---- the table */

/* Makes the context's GPU current; returns the one that was, for leave(). */
static int enter(const nabla_context *ctx) {
    int before = ctx->place.ordinal;
    cudaGetDevice(&before);
    if (before != ctx->place.ordinal) cudaSetDevice(ctx->place.ordinal);
    return before;
}

static void leave(const nabla_context *ctx, int before) {
    if (before != ctx->place.ordinal) cudaSetDevice(before);
}

/* A function of the table that calls `name` there. */
#define ENTRY(name, parameters, ctx, call)        \
    static nabla_status enter_##name parameters { \
        const int before = enter(ctx);            \
        const nabla_status status = call;         \
        leave(ctx, before);                       \
        return status;                            \
    }
#define CTX nabla_context *ctx
#define PLAN const nabla_plan *plan

static nabla_status open_context(nabla_context *ctx, const nabla_context_options *options) {
    char reason[256];
    nabla_status status = check_ordinal(options->ordinal, reason, sizeof reason);
    if (status)
        return nabla_fail(ctx, status, "%s%s", reason, status == NABLA_UNSUPPORTED ? "; use device NABLA_CPU" : "");
    ctx->place.ordinal = options->ordinal;
    ctx->threads = 1;
    ctx->cuda = calloc(1, sizeof *ctx->cuda);
    if (!ctx->cuda) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for a context");
    const int before = enter(ctx);
    status = open_here(ctx, options);
    leave(ctx, before);
    return status;
}

static void close_context(nabla_context *ctx) {
    nabla_cuda_state *s = ctx->cuda;
    if (!s) return;
    const int before = enter(ctx);
    nabla_cuda_give(ctx, s->scratch, s->scratch_size);
    nabla_cuda_imports_close(ctx);
    if (s->own_stream) {
        cudaStreamSynchronize(s->stream);
        cudaStreamDestroy(s->stream);
    }
    if (s->pool && s->own_pool)
        cudaMemPoolDestroy(s->pool); /* gone once work on a stream of the caller's is done with its memory */
    leave(ctx, before);
    free(s);
}

static nabla_status synchronize(nabla_context *ctx) {
    const nabla_status status = nabla_cuda_wait(ctx, "synchronising");
    return status ? status : nabla_cuda_check_imports(ctx);
}

static nabla_status reserve(nabla_context *ctx, size_t bytes) {
    void *scratch;
    return nabla_cuda_scratch(ctx, bytes, &scratch);
}

static size_t reserved(const nabla_context *ctx) {
    return ctx->cuda->scratch_size;
}

static void release(nabla_context *ctx, void *memory) {
    const int before = enter(ctx);
    nabla_cuda_release(ctx, memory);
    leave(ctx, before);
}

static void order_close(nabla_order *order) {
    const int before = enter(order->home);
    nabla_cuda_order_close(order);
    leave(order->home, before);
}

static void plan_close(nabla_plan *plan) {
    const int before = enter(plan->home);
    nabla_cuda_plan_close(plan);
    leave(plan->home, before);
}

ENTRY(synchronize, (CTX), ctx, synchronize(ctx))
ENTRY(reserve, (CTX, size_t bytes), ctx, reserve(ctx, bytes))
ENTRY(trim, (CTX), ctx, nabla_cuda_trim(ctx))
ENTRY(allocate, (CTX, size_t bytes, void **out), ctx, nabla_cuda_allocate(ctx, bytes, out))
ENTRY(copy, (CTX, void *to, const void *from, size_t bytes), ctx, nabla_cuda_copy(ctx, to, from, bytes))
ENTRY(order_open, (CTX, nabla_order *order), ctx, nabla_cuda_order_open(ctx, order))
ENTRY(permute, (CTX, const nabla_permutation *p), ctx, nabla_cuda_run_permute(ctx, p))
ENTRY(merge,
      (CTX, const nabla_tensor *o_a, const nabla_tensor *lse_a, const nabla_tensor *o_b, const nabla_tensor *lse_b),
      ctx, nabla_cuda_run_merge(ctx, o_a, lse_a, o_b, lse_b))
ENTRY(plan_open, (CTX, const nabla_plan_desc *desc, nabla_plan *plan), ctx, nabla_cuda_plan_open(ctx, desc, plan))
ENTRY(build_memory, (CTX, PLAN, int64_t head_dim, size_t *bytes), ctx,
      nabla_cuda_build_memory(ctx, plan, head_dim, bytes))
ENTRY(build, (CTX, nabla_plan *plan, const nabla_policy *policy, const nabla_scored *in), ctx,
      nabla_cuda_run_build(ctx, plan, policy, in))
ENTRY(export_lists, (CTX, PLAN, int32_t *num, int32_t *indices), ctx, nabla_cuda_lists_out(ctx, plan, num, indices))
ENTRY(import_lists, (CTX, nabla_plan *plan, const int32_t *num, const int32_t *indices), ctx,
      nabla_cuda_lists_in(ctx, plan, num, indices))
ENTRY(export_bitmap, (CTX, PLAN, uint8_t *bytes), ctx, nabla_cuda_bitmap_out(ctx, plan, bytes))
ENTRY(import_bitmap, (CTX, nabla_plan *plan, const uint8_t *bytes), ctx, nabla_cuda_bitmap_in(ctx, plan, bytes))
ENTRY(count, (CTX, PLAN, nabla_kept *kept, double *kept_mass), ctx, nabla_cuda_count_sets(ctx, plan, kept, kept_mass))
ENTRY(count_pairs, (CTX, PLAN, int64_t *pairs), ctx, nabla_cuda_count_pairs(ctx, plan, pairs))
ENTRY(forward_memory, (const nabla_call *call, size_t *bytes), call->ctx, nabla_cuda_forward_memory(call, bytes))
ENTRY(backward_memory, (const nabla_call *call, size_t *bytes), call->ctx, nabla_cuda_backward_memory(call, bytes))
ENTRY(forward, (const nabla_call *call), call->ctx, nabla_cuda_forward(call))
ENTRY(backward, (const nabla_call *call), call->ctx, nabla_cuda_backward(call))

const nabla_device_ops nabla_cuda_ops = {
    .name = "a GPU",
    .accept = NABLA_ACCEPT_FP32 | NABLA_ACCEPT_BF16 | NABLA_ACCEPT_FP16,
    .open = open_context,
    .close = close_context,
    .synchronize = enter_synchronize,
    .reserve = enter_reserve,
    .reserved = reserved,
    .trim = enter_trim,
    .allocate = enter_allocate,
    .release = release,
    .upload = enter_copy,
    .download = enter_copy,
    .check_data = nabla_cuda_check_data,
    .order_open = enter_order_open,
    .order_close = order_close,
    .permute = enter_permute,
    .merge = enter_merge,
    .plan_bytes = nabla_cuda_plan_bytes,
    .plan_open = enter_plan_open,
    .plan_close = plan_close,
    .build_memory = enter_build_memory,
    .build = enter_build,
    .export_lists = enter_export_lists,
    .import_lists = enter_import_lists,
    .export_bitmap = enter_export_bitmap,
    .import_bitmap = enter_import_bitmap,
    .count = enter_count,
    .count_pairs = enter_count_pairs,
    .forward_memory = enter_forward_memory,
    .backward_memory = enter_backward_memory,
    .forward = enter_forward,
    .backward = enter_backward,
};

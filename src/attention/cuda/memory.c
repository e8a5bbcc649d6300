/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a context's GPU. Scratch, plans and orders come from a pool, the context's own or its
   caller's, in the order of its stream, so that they can be made and freed while work is queued; what callers ask for
   comes from cudaMalloc. */
#include "state.h"

static bool capturing(const nabla_context *ctx) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(ctx->cuda->stream, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

nabla_status nabla_cuda_take(nabla_context *ctx, size_t bytes, void **out) {
    nabla_cuda_state *s = ctx->cuda;
    *out = NULL;
    if (s->limit && (bytes > s->limit || s->in_use > s->limit - bytes))
        return nabla_fail(
            ctx, NABLA_OUT_OF_MEMORY,
            "%zu bytes of GPU memory are wanted, and of memory_limit's %zu there are %zu in use; raise it, or destroy "
            "plans and orders that are done with",
            bytes, s->limit, s->in_use);
    if (capturing(ctx))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "%zu bytes of GPU memory are wanted while the context's stream is being captured in a graph; "
                          "make plans and orders before",
                          bytes);
    cudaError_t error = cudaMallocFromPoolAsync(out, bytes, s->pool, s->stream);
    if (error == cudaErrorMemoryAllocation) { /* the pool may hold pieces that are free and too small */
        cudaGetLastError();
        error = cudaStreamSynchronize(s->stream);
        if (!error) error = cudaMemPoolTrimTo(s->pool, 0);
        if (!error) error = cudaMallocFromPoolAsync(out, bytes, s->pool, s->stream);
    }
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "GPU %d has no memory for %zu bytes", (int)ctx->place.ordinal,
                          bytes);
    }
    const nabla_status status = nabla_cuda_check(ctx, error, "taking memory");
    if (!status) s->in_use += bytes;
    return status;
}

void nabla_cuda_give(nabla_context *ctx, void *memory, size_t bytes) {
    if (!memory) return;
    cudaFreeAsync(memory, ctx->cuda->stream);
    ctx->cuda->in_use -= bytes;
}

nabla_status nabla_cuda_scratch(nabla_context *ctx, size_t bytes, void **out) {
    nabla_cuda_state *s = ctx->cuda;
    *out = NULL;
    if (bytes > s->scratch_size) {
        if (capturing(ctx))
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                              "%zu bytes of scratch are needed and there are %zu, while the context's stream is being "
                              "captured in a graph; before it, call nabla_context_reserve() with what "
                              "nabla_attention_memory() gives",
                              bytes, s->scratch_size);
        nabla_cuda_give(ctx, s->scratch, s->scratch_size);
        s->scratch_size = 0;
        const nabla_status status = nabla_cuda_take(ctx, bytes, &s->scratch);
        if (status) return status;
        s->scratch_size = bytes;
    }
    *out = s->scratch;
    return NABLA_OK;
}

nabla_status nabla_cuda_trim(nabla_context *ctx) {
    nabla_cuda_state *s = ctx->cuda;
    if (capturing(ctx))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "the context's stream is being captured in a graph, which may need its scratch");
    nabla_cuda_give(ctx, s->scratch, s->scratch_size);
    s->scratch = NULL;
    s->scratch_size = 0;
    return NABLA_OK;
}

/* ---- the caller's memory */

nabla_status nabla_cuda_allocate(nabla_context *ctx, size_t bytes, void **out) {
    const cudaError_t error = cudaMalloc(out, bytes);
    if (error != cudaErrorMemoryAllocation) return nabla_cuda_check(ctx, error, "taking memory");
    cudaGetLastError();
    *out = NULL;
    return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "GPU %d has no memory for %zu bytes", (int)ctx->place.ordinal, bytes);
}

void nabla_cuda_release(nabla_context *ctx, void *memory) {
    (void)ctx;
    cudaFree(memory);
}

nabla_status nabla_cuda_copy(nabla_context *ctx, void *to, const void *from, size_t bytes) {
    nabla_status status = nabla_cuda_wait(ctx, "copying memory");
    if (!status)
        status = nabla_cuda_check(ctx, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, ctx->cuda->stream),
                                  "copying memory");
    return status ? status : nabla_cuda_wait(ctx, "copying memory");
}

nabla_status nabla_cuda_reaches(nabla_context *ctx, const char *name, const void *data, bool *out) {
    struct cudaPointerAttributes where;
    *out = false;
    const nabla_status status = nabla_cuda_check(ctx, cudaPointerGetAttributes(&where, data), name);
    if (status || (where.type != cudaMemoryTypeDevice && where.type != cudaMemoryTypeManaged)) return status;
    if (where.type == cudaMemoryTypeDevice && where.device != ctx->place.ordinal)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is in the memory of GPU %d; the context is of GPU %d", name,
                          where.device, (int)ctx->place.ordinal);
    *out = true;
    return NABLA_OK;
}

/* Needs no device made current: the driver knows every address. */
nabla_status nabla_cuda_check_data(nabla_context *ctx, const char *name, const void *data) {
    bool reaches;
    const nabla_status status = nabla_cuda_reaches(ctx, name, data, &reaches);
    if (status || reaches) return status;
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is in host memory; a CUDA context needs device memory", name);
}

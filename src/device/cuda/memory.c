/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the GPU, from a pool in the order of the stream, which libnabla's context shares; copies from and to the
   host through pinned staging, or on a stream of their own from memory that the caller took pinned. Fills, and copies
   that nobody waits for, have no status to return: the first that fails is kept until somebody waits. */
#include "device/cuda/cuda.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4, SLOT_BYTES = 4 << 20 };

struct nv_cuda_memory {
    cudaMemPool_t pool;
    unsigned char *staging;     /* pinned, [SLOTS][SLOT_BYTES] */
    cudaEvent_t emptied[SLOTS]; /* what was last copied out of a slot has left it */
    int32_t next;
    cudaStream_t aside;                          /* of what is fetched */
    cudaEvent_t queued, arrived[NV_FETCH_LANES]; /* what it waits for; the end of each lane's last copy */
    cudaError_t failed;                          /* the first failure of a copy or a fill since somebody waited */
};

/* ------------------------------------------------------------------------------------------ life */

nabla_status nv_cuda_memory_open(nv_cuda *d, nv_error *err) {
    struct nv_cuda_memory *m = calloc(1, sizeof *m);
    const struct cudaMemPoolProps properties = {.allocType = cudaMemAllocationTypePinned,
                                                .location = {cudaMemLocationTypeDevice, d->ordinal}};
    unsigned long long keep = UINT64_MAX; /* what is freed stays ours: runs of one size come and go */
    if (!m) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a device");
    d->memory = m;
    cudaError_t error = cudaMemPoolCreate(&m->pool, &properties);
    if (!error) error = cudaMemPoolSetAttribute(m->pool, cudaMemPoolAttrReleaseThreshold, &keep);
    if (!error) error = cudaMallocHost((void **)&m->staging, (size_t)SLOTS * SLOT_BYTES);
    for (int i = 0; i < SLOTS && !error; i++)
        error = cudaEventCreateWithFlags(&m->emptied[i], cudaEventDisableTiming);
    if (!error) error = cudaStreamCreateWithPriority(&m->aside, cudaStreamNonBlocking, 0);
    if (!error) error = cudaEventCreateWithFlags(&m->queued, cudaEventDisableTiming);
    for (int i = 0; i < NV_FETCH_LANES && !error; i++)
        error = cudaEventCreateWithFlags(&m->arrived[i], cudaEventDisableTiming);
    return nv_cuda_check(d, error, "setting up memory", err);
}

void nv_cuda_memory_close(nv_cuda *d) {
    struct nv_cuda_memory *m = d->memory;
    if (!m) return;
    if (m->aside) cudaStreamSynchronize(m->aside);
    if (d->stream) cudaStreamSynchronize(d->stream);
    if (d->scratch) cudaFreeAsync(d->scratch, d->stream);
    for (int i = 0; i < NV_FETCH_LANES; i++)
        if (m->arrived[i]) cudaEventDestroy(m->arrived[i]);
    if (m->queued) cudaEventDestroy(m->queued);
    if (m->aside) cudaStreamDestroy(m->aside);
    for (int i = 0; i < SLOTS; i++)
        if (m->emptied[i]) cudaEventDestroy(m->emptied[i]);
    if (m->staging) cudaFreeHost(m->staging);
    if (m->pool) cudaMemPoolDestroy(m->pool);
    free(m);
    d->memory = NULL;
}

void *nv_cuda_pool(const nv_cuda *d) {
    return d->memory->pool;
}

static void note(nv_cuda *d, cudaError_t error) {
    if (!error) return;
    cudaGetLastError(); /* kept here, and not laid to the next launch */
    if (!d->memory->failed) d->memory->failed = error;
}

/* A copy from or to the host of what is being recorded: it would be replayed from memory that holds something else. */
static int refused(nv_cuda *d) {
    if (d->recording) note(d, cudaErrorStreamCaptureUnsupported);
    return d->recording;
}

nabla_status nv_cuda_wait(nv_device *dev, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    NV_TRY(nv_cuda_not_recording(d, "waiting", err));
    note(d, cudaStreamSynchronize(d->stream));
    const cudaError_t failed = d->memory->failed;
    d->memory->failed = cudaSuccess;
    NV_TRY(nv_cuda_check(d, failed, "running what was queued", err));
    const nabla_status status = nabla_context_synchronize(dev->context);
    return status ? nv_fail(err, status, "%s", nabla_context_message(dev->context)) : NABLA_OK;
}

/* ------------------------------------------------------------------------------------------ taking and giving back */

/* A figure of the pool; 0 where it cannot be found out. */
static double pool_figure(const nv_cuda *d, enum cudaMemPoolAttr which) {
    unsigned long long bytes = 0;
    if (cudaMemPoolGetAttribute(d->memory->pool, which, &bytes) == cudaSuccess) return (double)bytes;
    cudaGetLastError(); /* no failure of the work */
    return 0;
}

static double pool_used(const nv_cuda *d) {
    return pool_figure(d, cudaMemPoolAttrUsedMemCurrent);
}

/* What nobody holds, and of how much; 0 where it cannot be found out. */
static double idle_memory(const nv_cuda *d, double *of) {
    size_t left = 0, total = 0;
    *of = 0;
    if (cudaMemGetInfo(&left, &total)) {
        cudaGetLastError();
        return 0;
    }
    *of = (double)total;
    return (double)left + pool_figure(d, cudaMemPoolAttrReservedMemCurrent) - pool_used(d);
}

void nv_cuda_memory_left(nv_device *dev, nv_device_memory *out) {
    const nv_cuda *d = nv_cuda_of(dev);
    double total;
    const double idle = idle_memory(d, &total), taken = (double)d->scratch_bytes;
    const double own = taken < NV_CUDA_OWN ? NV_CUDA_OWN - taken : 0, rest = idle - own;
    *out = (nv_device_memory){0};
    if (total == 0) return;
    *out = (nv_device_memory){.total = total, .available = rest > 1 ? rest : 1 /* 0 would be: not known */};
    out->held = total - idle - pool_used(d) + pool_figure(d, cudaMemPoolAttrUsedMemHigh);
}

nabla_status nv_cuda_take(nv_cuda *d, size_t bytes, void **out, nv_error *err) {
    struct nv_cuda_memory *m = d->memory;
    const size_t least = bytes ? bytes : 1;
    double total;
    *out = NULL;
    NV_TRY(nv_cuda_not_recording(d, "taking memory", err));
    cudaError_t error = cudaMallocFromPoolAsync(out, least, m->pool, d->stream);
    if (error == cudaErrorMemoryAllocation) { /* the pool may hold pieces that are free and too small */
        cudaGetLastError();
        error = cudaStreamSynchronize(d->stream);
        if (!error) error = cudaMemPoolTrimTo(m->pool, 0);
        if (!error) error = cudaMallocFromPoolAsync(out, least, m->pool, d->stream);
    }
    if (error != cudaErrorMemoryAllocation) return nv_cuda_check(d, error, "taking memory", err);
    cudaGetLastError();
    *out = NULL;
    return nv_fail(err, NABLA_OUT_OF_MEMORY,
                   "GPU %d has no %.1f MB of memory, %.1f MB are left; use a smaller batch or size", (int)d->ordinal,
                   (double)bytes / 1e6, idle_memory(d, &total) / 1e6);
}

nabla_status nv_cuda_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err) {
    NV_TRY(nv_cuda_take(nv_cuda_of(dev), bytes, out, err));
    nv_cuda_zero(dev, *out, bytes);
    return NABLA_OK;
}

void nv_cuda_release(nv_device *dev, void *data) {
    nv_cuda *d = nv_cuda_of(dev);
    if (data) note(d, cudaFreeAsync(data, d->stream));
}

nabla_status nv_cuda_scratch(nv_cuda *d, size_t bytes, void **out, nv_error *err) {
    *out = NULL;
    if (bytes > d->scratch_bytes) {
        NV_TRY(nv_cuda_not_recording(d, "taking memory", err));
        d->moves++;
        nv_cuda_release(&d->base, d->scratch); /* once what uses it now is done */
        d->scratch = NULL;
        d->scratch_bytes = 0;
        NV_TRY(nv_cuda_take(d, bytes, &d->scratch, err));
        d->scratch_bytes = bytes;
    }
    *out = d->scratch;
    return NABLA_OK;
}

/* ------------------------------------------------------------------------------------------ copies */

void nv_cuda_zero(nv_device *dev, void *data, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    if (bytes) note(d, cudaMemsetAsync(data, 0, bytes, d->stream));
}

void nv_cuda_copy(nv_device *dev, void *dst, const void *src, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    if (bytes) note(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, d->stream));
}

/* A slot that nothing is copied out of any more. */
static int32_t free_slot(nv_cuda *d) {
    struct nv_cuda_memory *m = d->memory;
    const int32_t slot = m->next;
    m->next = (slot + 1) % SLOTS;
    note(d, cudaEventSynchronize(m->emptied[slot]));
    return slot;
}

void nv_cuda_upload(nv_device *dev, void *dst, const void *src, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    struct nv_cuda_memory *m = d->memory;
    if (refused(d)) return;
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        const size_t count = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
        const int32_t slot = free_slot(d);
        unsigned char *room = m->staging + (size_t)slot * SLOT_BYTES;
        memcpy(room, (const unsigned char *)src + at, count);
        note(d, cudaMemcpyAsync((unsigned char *)dst + at, room, count, cudaMemcpyHostToDevice, d->stream));
        note(d, cudaEventRecord(m->emptied[slot], d->stream));
    }
}

/* Two pieces are under way at a time: one comes while the one before is handed on. After a failure staging holds what
   was there before, which is not handed on. */
nabla_status nv_cuda_download(nv_device *dev, void *dst, const void *src, size_t bytes, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    struct nv_cuda_memory *m = d->memory;
    int32_t slots[2] = {0};
    NV_TRY(nv_cuda_not_recording(d, "copying to the host", err));
    for (size_t at = 0, piece = 0; at < bytes + SLOT_BYTES; at += SLOT_BYTES, piece++) {
        if (at < bytes) {
            const size_t count = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
            const int32_t slot = slots[piece % 2] = free_slot(d);
            note(d, cudaMemcpyAsync(m->staging + (size_t)slot * SLOT_BYTES, (const unsigned char *)src + at, count,
                                    cudaMemcpyDeviceToHost, d->stream));
            note(d, cudaEventRecord(m->emptied[slot], d->stream));
        }
        if (piece == 0) continue;
        const size_t before = at - SLOT_BYTES, count = bytes - before < SLOT_BYTES ? bytes - before : SLOT_BYTES;
        const int32_t slot = slots[(piece - 1) % 2];
        note(d, cudaEventSynchronize(m->emptied[slot]));
        if (m->failed) break;
        memcpy((unsigned char *)dst + before, m->staging + (size_t)slot * SLOT_BYTES, count);
    }
    return nv_cuda_check(d, m->failed, "copying to the host", err);
}

/* ------------------------------------------------------------------------------------------ beside the queue */

nabla_status nv_cuda_host_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err) {
    *out = NULL;
    const cudaError_t error = cudaMallocHost(out, bytes ? bytes : 1);
    if (error) *out = NULL;
    if (error != cudaErrorMemoryAllocation)
        return nv_cuda_check(nv_cuda_of(dev), error, "taking host memory that a GPU can copy from", err);
    cudaGetLastError();
    return nv_fail(err, NABLA_OUT_OF_MEMORY,
                   "the host has no %.1f MB of memory to lock for a GPU (swap does not count): free some",
                   (double)bytes / 1e6);
}

void nv_cuda_host_release(nv_device *dev, void *data) {
    nv_cuda *d = nv_cuda_of(dev);
    if (!data) return;
    note(d, cudaStreamSynchronize(d->memory->aside));
    note(d, cudaStreamSynchronize(d->stream)); /* of what is stowed */
    note(d, cudaFreeHost(data));
}

void nv_cuda_fetch(nv_device *dev, int32_t lane, void *dst, const void *src, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    struct nv_cuda_memory *m = d->memory;
    if (refused(d)) return;
    note(d, cudaEventRecord(m->queued, d->stream));
    note(d, cudaStreamWaitEvent(m->aside, m->queued, 0));
    note(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, m->aside));
    note(d, cudaEventRecord(m->arrived[lane], m->aside));
}

void nv_cuda_await(nv_device *dev, int32_t lane) {
    nv_cuda *d = nv_cuda_of(dev);
    if (refused(d)) return;
    note(d, cudaStreamWaitEvent(d->stream, d->memory->arrived[lane], 0));
}

void nv_cuda_fetched(nv_device *dev, int32_t lane) {
    nv_cuda *d = nv_cuda_of(dev);
    note(d, cudaEventSynchronize(d->memory->arrived[lane]));
}

void nv_cuda_stow(nv_device *dev, void *dst, const void *src, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    if (refused(d)) return;
    note(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, d->stream));
}

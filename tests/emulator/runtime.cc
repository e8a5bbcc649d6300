// SPDX-License-Identifier: Apache-2.0
// The emulated device: memory that only its own work can reach, streams that do their work at once (those made with a
// priority sometimes as late as they may), and graphs that record it.
#include "cuda_runtime.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    CUgraph_st graph;
};
struct CUstream_st {
    CUgraph_st *recording = nullptr;
    bool may_be_late = false;
    unsigned long queued = 0;                // pieces of work, in all
    std::vector<std::function<void()>> late; // those that wait for somebody to wait for them
};
struct CUmemPool_st {
    size_t used = 0, most = 0;
};
struct CUevent_st {
    std::chrono::steady_clock::time_point at;
    cudaStream_t stream = nullptr; // where it was recorded last
};

namespace {
const size_t device_bytes = (size_t)4 << 30;
const size_t page = 4096;

// Memory lies at the end of whole pages, up to 255 bytes short of it for the sake of alignment; the page behind must
// not be touched, and none of them but while the device works.
struct piece {
    size_t bytes;
    char *pages;
    size_t page_bytes; // without the last
    CUmemPool_st *pool;
};
std::map<const char *, piece> pieces; // by address
size_t taken = 0;
int working = 0; // kernels and copies that run
std::mutex memory_lock;
thread_local cudaError_t last = cudaSuccess;

cudaError_t say(cudaError_t error) {
    if (error) last = error;
    return error;
}

cudaError_t take(void **out, size_t bytes, CUmemPool_st *pool) {
    const std::lock_guard<std::mutex> alone(memory_lock);
    *out = nullptr;
    if (bytes > device_bytes - taken) return say(cudaErrorMemoryAllocation);
    const size_t rounded = (bytes + 255) / 256 * 256, page_bytes = (rounded + page - 1) / page * page;
    char *pages = (char *)mmap(nullptr, page_bytes + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return say(cudaErrorMemoryAllocation);
    char *memory = pages + page_bytes - rounded;
    mprotect(pages, page_bytes, PROT_READ | PROT_WRITE);
    std::memset(memory, 0xff, bytes); // NaN: what is read before it is written shows
    if (!working) mprotect(pages, page_bytes, PROT_NONE);
    pieces[memory] = {bytes, pages, page_bytes, pool};
    taken += bytes;
    if (pool) pool->used += bytes;
    if (pool && pool->used > pool->most) pool->most = pool->used;
    *out = memory;
    return cudaSuccess;
}

cudaError_t drop(void *memory) {
    if (!memory) return cudaSuccess;
    const std::lock_guard<std::mutex> alone(memory_lock);
    const auto found = pieces.find((const char *)memory);
    if (found == pieces.end()) return say(cudaErrorInvalidValue);
    taken -= found->second.bytes;
    if (found->second.pool) found->second.pool->used -= found->second.bytes;
    munmap(found->second.pages, found->second.page_bytes + page);
    pieces.erase(found);
    return cudaSuccess;
}

bool on_device(const void *pointer) {
    const std::lock_guard<std::mutex> alone(memory_lock);
    auto after = pieces.upper_bound((const char *)pointer);
    if (after == pieces.begin()) return false;
    --after;
    return (const char *)pointer < after->first + after->second.bytes;
}

void reach(int protection) {
    for (const auto &p : pieces)
        mprotect(p.second.pages, p.second.page_bytes, protection);
}

void run(const std::function<void()> &work) {
    {
        const std::lock_guard<std::mutex> alone(memory_lock);
        if (working++ == 0) reach(PROT_READ | PROT_WRITE);
    }
    work();
    const std::lock_guard<std::mutex> alone(memory_lock);
    if (--working == 0) reach(PROT_NONE);
}
} // namespace

static void catch_up(cudaStream_t stream) {
    for (const auto &work : stream->late)
        run(work);
    stream->late.clear();
}

// A stream that may be late does every third piece of its work at once and with it all before, so that a missing wait
// shows on either side: the work was not done yet, or it was done too soon.
void emulator_queue(cudaStream_t stream, std::function<void()> work) {
    if (stream && stream->recording) {
        stream->recording->work.push_back(std::move(work));
    } else if (stream && stream->may_be_late) {
        stream->late.push_back(std::move(work));
        if (stream->queued++ % 3 == 0) catch_up(stream);
    } else {
        run(work);
    }
}

extern "C" {
const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    default:
        return "an error of the emulated device";
    }
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : say(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int) {
    switch (which) {
    case cudaDevAttrMultiProcessorCount:
        *value = 3;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = EMULATOR_SHARED_BYTES;
        return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
        *value = 1;
        return cudaSuccess;
    }
    return say(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int) {
    *properties = {"emulated GPU", 9, 0, 3};
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    *left = device_bytes - taken;
    *total = device_bytes;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *where, const void *pointer) {
    where->type = on_device(pointer) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    where->device = 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    return take(out, bytes, nullptr);
}

cudaError_t cudaFree(void *memory) {
    return drop(memory);
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    *out = std::malloc(bytes);
    return *out ? cudaSuccess : say(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *memory) {
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->stream = stream;
    emulator_queue(stream, [=] { event->at = std::chrono::steady_clock::now(); });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->stream) catch_up(event->stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
    return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *) {
    *pool = new CUmemPool_st();
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, enum cudaMemPoolAttr, void *) {
    return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr which, void *value) {
    *(unsigned long long *)value = which == cudaMemPoolAttrUsedMemHigh ? pool->most : pool->used; // nothing is kept that was given back
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) {
    return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    if (pool->used) emulator_fail("a pool that is gone before what was taken from it");
    delete pool;
    return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void **out, size_t bytes, cudaMemPool_t pool, cudaStream_t) {
    return take(out, bytes, pool);
}

cudaError_t cudaFreeAsync(void *memory, cudaStream_t) {
    return drop(memory);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
    if (bytes && !on_device(memory)) return say(cudaErrorInvalidValue);
    emulator_queue(stream, [=] { std::memset(memory, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice,
               from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault && (on_device(to) != to_device || on_device(from) != from_device))
        return say(cudaErrorInvalidValue);
    emulator_queue(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new CUstream_st();
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) {
    *stream = new CUstream_st();
    (*stream)->may_be_late = true;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    catch_up(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (stream) catch_up(stream);
    return stream && stream->recording ? say(cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = stream && stream->recording ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    stream->recording = new CUgraph_st();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = stream->recording;
    stream->recording = nullptr;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    *exec = new CUgraphExec_st{*graph};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
    for (const auto &work : exec->graph.work)
        run(work);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
}

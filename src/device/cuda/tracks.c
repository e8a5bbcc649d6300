/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that stay in the host's memory: copied to the GPU beside its work, on a stream of their own. Events order the
   two: a copy begins behind the work that was queued before it, which may still read what it overwrites, and work that
   needs it is queued behind an await. Nothing here makes the host wait but giving its memory back. */
#include "device/cuda/cuda.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>

struct nv_cuda_tracks {
    cudaStream_t stream;
    cudaEvent_t behind;             /* the work queued so far */
    cudaEvent_t arrived[NV_TRACKS]; /* the last copy of each track */
};

void nv_cuda_tracks_close(nv_cuda *d) {
    struct nv_cuda_tracks *l = d->tracks;
    if (!l) return;
    if (l->stream) cudaStreamSynchronize(l->stream);
    if (l->behind) cudaEventDestroy(l->behind);
    for (int i = 0; i < NV_TRACKS; i++)
        if (l->arrived[i]) cudaEventDestroy(l->arrived[i]);
    if (l->stream) cudaStreamDestroy(l->stream);
    free(l);
    d->tracks = NULL;
}

/* When first needed: most models fit. */
static nabla_status open_tracks(nv_cuda *d, nv_error *err) {
    if (d->tracks) return NABLA_OK;
    struct nv_cuda_tracks *l = d->tracks = calloc(1, sizeof *l);
    if (!l) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for copies from the host");
    cudaError_t error = cudaStreamCreateWithPriority(&l->stream, cudaStreamNonBlocking, 0);
    if (!error) error = cudaEventCreateWithFlags(&l->behind, cudaEventDisableTiming);
    for (int i = 0; i < NV_TRACKS && !error; i++)
        error = cudaEventCreateWithFlags(&l->arrived[i], cudaEventDisableTiming);
    const nabla_status status = nv_cuda_check(d, error, "setting up copies from the host", err);
    if (status != NABLA_OK) nv_cuda_tracks_close(d);
    return status;
}

nabla_status nv_cuda_host_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    *out = NULL;
    NV_TRY(open_tracks(d, err));
    const cudaError_t error = cudaMallocHost(out, bytes ? bytes : 1);
    if (error != cudaErrorMemoryAllocation) return nv_cuda_check(d, error, "taking memory of the host", err);
    cudaGetLastError();
    *out = NULL;
    return nv_fail(
        err, NABLA_OUT_OF_MEMORY,
        "the host gives no %.1f GB of memory that the GPU can read (it stays in RAM, so swap does not count): "
        "free some",
        (double)bytes / 1e9);
}

void nv_cuda_host_release(nv_device *dev, void *data) {
    nv_cuda *d = nv_cuda_of(dev);
    if (!data) return;
    nv_cuda_note(d, cudaStreamSynchronize(d->stream));
    nv_cuda_note(d, cudaStreamSynchronize(d->tracks->stream));
    nv_cuda_note(d, cudaFreeHost(data));
}

void nv_cuda_fetch(nv_device *dev, int32_t track, void *dst, const void *src, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    struct nv_cuda_tracks *l = d->tracks;
    nv_cuda_note(d, cudaEventRecord(l->behind, d->stream));
    nv_cuda_note(d, cudaStreamWaitEvent(l->stream, l->behind, 0));
    nv_cuda_note(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, l->stream));
    nv_cuda_note(d, cudaEventRecord(l->arrived[track], l->stream));
}

void nv_cuda_await(nv_device *dev, int32_t track) {
    nv_cuda *d = nv_cuda_of(dev);
    const nv_phase before = nv_cuda_phase(dev, NV_WEIGHTS);
    nv_cuda_note(d, cudaStreamWaitEvent(d->stream, d->tracks->arrived[track], 0));
    nv_cuda_phase(dev, before);
}

void nv_cuda_stow(nv_device *dev, void *dst, const void *src, size_t bytes) {
    nv_cuda *d = nv_cuda_of(dev);
    nv_cuda_note(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, d->stream));
}

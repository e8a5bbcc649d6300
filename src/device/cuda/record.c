/* SPDX-License-Identifier: Apache-2.0 */
/* Work recorded as a CUDA graph: a replay costs the host one call where the work costs one a kernel, and the GPU waits
   less between short ones. Bits are those of the work itself: the same kernels in the same order. */
#include "device/cuda/cuda.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>

struct nv_recording {
    cudaGraphExec_t graph;
    nv_clock like;           /* zero: not known */
    double product_flop;     /* of one replay */
    int32_t moves;           /* as they were when it was recorded: the device's scratch and products' workspace */
    size_t attention_memory; /* and libnabla's */
};

static int capturing(const nv_cuda *d) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(d->stream, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

nabla_status nv_cuda_not_recording(const nv_cuda *d, const char *what, nv_error *err) {
    if (!capturing(d)) return NABLA_OK;
    return nv_fail(err, NABLA_INTERNAL,
                   "%s on GPU %d while its work is being recorded: what is recorded must have run once before, and may "
                   "neither wait nor take memory",
                   what, (int)d->ordinal);
}

/* Until the end nothing runs. However the work ends, so must the recording. */
static nabla_status capture(nv_cuda *d, nv_work work, void *user, cudaGraph_t *graph, nv_error *err) {
    NV_TRY(nv_cuda_wait(&d->base, err)); /* what failed before is not laid to the recording */
    NV_TRY(
        nv_cuda_check(d, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal), "recording work", err));
    d->recording = 1;
    nabla_status status = work(user, err);
    d->recording = 0;
    const cudaError_t error = cudaStreamEndCapture(d->stream, graph);
    if (status == NABLA_OK) status = nv_cuda_check(d, error, "recording work", err);
    cudaGetLastError(); /* the work told it first */
    /* Copies note their failures for who waits. */
    nv_error noted = {0};
    const nabla_status copies = nv_cuda_wait(&d->base, &noted);
    return status == NABLA_OK && copies != NABLA_OK ? nv_fail(err, copies, "%s", noted.text) : status;
}

nabla_status nv_cuda_record(nv_device *dev, nv_work work, void *user, const nv_clock *like, nv_recording **out,
                            nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    cudaGraph_t graph = NULL;
    *out = NULL;
    NV_TRY(nv_cuda_not_recording(d, "a second recording", err));
    nv_recording *r = calloc(1, sizeof *r);
    if (!r) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a recording");
    const double before = nv_cuda_flop(d);
    nabla_status status = capture(d, work, user, &graph, err);
    r->product_flop = nv_cuda_flop(d) - before;
    nv_cuda_count_flop(d, -r->product_flop); /* nothing has run */
    if (status == NABLA_OK) status = nv_cuda_check(d, cudaGraphInstantiate(&r->graph, graph, 0), "recording work", err);
    if (graph) cudaGraphDestroy(graph);
    if (status != NABLA_OK) {
        r->graph = NULL;
        nv_cuda_recording_release(dev, r);
        return status;
    }
    if (like) r->like = *like;
    r->moves = d->moves;
    r->attention_memory = nabla_context_reserved(dev->context);
    *out = r;
    return NABLA_OK;
}

int nv_cuda_replays(const nv_device *dev, const nv_recording *r) {
    const nv_cuda *d = (const nv_cuda *)(const void *)dev;
    return r->moves == d->moves && r->attention_memory == nabla_context_reserved(dev->context);
}

nabla_status nv_cuda_replay(nv_device *dev, nv_recording *r, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    NV_TRY(nv_cuda_not_recording(d, "replaying work", err));
    if (!nv_cuda_replays(dev, r))
        return nv_fail(err, NABLA_INTERNAL,
                       "GPU %d's own memory has moved since its work was recorded: record it again", (int)d->ordinal);
    nv_cuda_shared_phase(d, &r->like);
    NV_TRY(nv_cuda_check(d, cudaGraphLaunch(r->graph, d->stream), "replaying work", err));
    nv_cuda_shared_phase(d, NULL);
    nv_cuda_count_flop(d, r->product_flop);
    return NABLA_OK;
}

void nv_cuda_recording_release(nv_device *dev, nv_recording *r) {
    nv_clock shared;
    if (!r) return;
    nv_cuda_clock_read(dev, &shared); /* its shares are read for the last time; and its work is done */
    if (r->graph) cudaGraphExecDestroy(r->graph);
    free(r);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ops_device.h"
#include "device/cuda/ops.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <time.h>

double nv_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cudaStream_t stream_of(nv_device *dev) {
    return nv_cuda_of(dev)->stream;
}

static nabla_status allocate(nv_device *dev, size_t bytes, void **out, nv_error *err) {
    *out = NULL;
    if (cudaMalloc(out, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError();
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no GPU memory for %.1f MB", (double)bytes / 1e6);
    }
    cudaMemsetAsync(*out, 0, bytes, stream_of(dev));
    return nv_cuda_launched(err, "clearing memory");
}

static void release(nv_device *dev, void *data) {
    cudaStreamSynchronize(stream_of(dev));
    cudaFree(data);
}

static void zero(nv_device *dev, void *data, size_t bytes) {
    cudaMemsetAsync(data, 0, bytes, stream_of(dev));
}

static void copy(nv_device *dev, void *dst, const void *src, size_t bytes) {
    cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream_of(dev));
    cudaStreamSynchronize(stream_of(dev));
}

static nabla_status download(nv_device *dev, void *dst, const void *src, size_t bytes, nv_error *err) {
    copy(dev, dst, src, bytes);
    return nv_cuda_launched(err, "copying to the host");
}

nabla_status nv_cuda_scratch(nv_cuda *d, size_t bytes, void **out, nv_error *err) {
    if (bytes > d->scratch_bytes) {
        release(&d->base, d->scratch);
        d->scratch = NULL;
        d->scratch_bytes = 0;
        NV_TRY(allocate(&d->base, bytes, &d->scratch, err));
        d->scratch_bytes = bytes;
    }
    *out = d->scratch;
    return NABLA_OK;
}

static const nv_device_ops kernels = {
    .allocate = allocate,
    .release = release,
    .zero = zero,
    .copy = copy,
    .upload = copy,
    .download = download,
    .seam = nv_cuda_seam,
    .seam_backward = nv_cuda_seam_backward,
    .qk_norm = nv_cuda_qk_norm,
    .qk_norm_backward = nv_cuda_qk_norm_backward,
    .activate = nv_cuda_activate,
    .activate_backward = nv_cuda_activate_backward,
    .gate = nv_cuda_gate,
    .softmax = nv_cuda_softmax,
    .cast = nv_cuda_cast,
    .column_sums = nv_cuda_column_sums,
    .add = nv_cuda_add,
    .channel_norm = nv_cuda_channel_norm,
    .upsample = nv_cuda_upsample,
    .patchify = nv_cuda_patchify,
    .unpatchify = nv_cuda_unpatchify,
    .sinusoid = nv_cuda_sinusoid,
    .modulation = nv_cuda_modulation,
    .modulation_backward = nv_cuda_modulation_backward,
    .embed = nv_cuda_embed,
    .embed_backward = nv_cuda_embed_backward,
    .solve = nv_cuda_solve,
    .sum_squares = nv_cuda_sum_squares,
    .adamw = nv_cuda_adamw,
};

nabla_status ops_device_create(nv_device **out, nv_error *err) {
    int count = 0;
    cudaStream_t stream;
    *out = NULL;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        cudaGetLastError();
        return nv_fail(err, NABLA_UNSUPPORTED, "there is no GPU here, or no driver for it");
    }
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess)
        return nv_cuda_launched(err, "making a stream");
    nv_cuda *d = calloc(1, sizeof *d);
    if (!d) abort();
    d->base.ops = &kernels;
    d->base.threads = 1;
    d->base.level = "cuda";
    d->stream = stream;
    *out = &d->base;
    return NABLA_OK;
}

void ops_device_destroy(nv_device *dev) {
    release(dev, nv_cuda_of(dev)->scratch);
    cudaStreamDestroy(stream_of(dev));
    free(dev);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU device: one stream of one GPU, libnabla's context on the same stream. */
#include "device/create.h"
#include "device/cuda/cuda.h"
#include "device/cuda/ops.h"
#include "device/cuda/products.h"
#include <cuda_runtime_api.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

nabla_status nv_cuda_check(const nv_cuda *d, int error, const char *doing, nv_error *err) {
    if (error == cudaSuccess) return NABLA_OK;
    cudaGetLastError(); /* it is told here, and not by the next call */
    return nv_fail(err, error == cudaErrorMemoryAllocation ? NABLA_OUT_OF_MEMORY : NABLA_INTERNAL, "%s on GPU %d: %s",
                   doing, (int)d->ordinal, cudaGetErrorString((cudaError_t)error));
}

static void destroy(nv_device *dev) {
    nv_cuda *d = nv_cuda_of(dev);
    if (d->stream) cudaStreamSynchronize(d->stream);
    nv_cuda_products_close(d);
    nabla_context_destroy(dev->context);
    nv_cuda_timer_close(d);
    nv_cuda_memory_close(d);
    if (d->stream) cudaStreamDestroy(d->stream);
    free(d);
}

static void trim(nv_device *dev) {
    nabla_context_trim(dev->context);
}

static const nv_device_ops cuda_ops = {
    .destroy = destroy,
    .products = nv_cuda_products_name,
    .wait = nv_cuda_wait,
    .choices = nv_cuda_choices,
    .choose = nv_cuda_choose,
    .phase = nv_cuda_phase,
    .clock_reset = nv_cuda_clock_reset,
    .clock_read = nv_cuda_clock_read,
    .record = nv_cuda_record,
    .replay = nv_cuda_replay,
    .replays = nv_cuda_replays,
    .recording_release = nv_cuda_recording_release,
    .memory = nv_cuda_memory_left,
    .allocate = nv_cuda_allocate,
    .release = nv_cuda_release,
    .zero = nv_cuda_zero,
    .copy = nv_cuda_copy,
    .upload = nv_cuda_upload,
    .download = nv_cuda_download,
    .trim = trim,
    .host_allocate = nv_cuda_host_allocate,
    .host_release = nv_cuda_host_release,
    .fetch = nv_cuda_fetch,
    .await = nv_cuda_await,
    .fetched = nv_cuda_fetched,
    .stow = nv_cuda_stow,
    .linear = nv_cuda_linear,
    .linear_activate = nv_cuda_linear_activate,
    .linear_backward_input = nv_cuda_linear_backward_input,
    .linear_backward_weight = nv_cuda_linear_backward_weight,
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
    .conv_weights = nv_cuda_conv_weights,
    .conv_weights_bytes = nv_cuda_conv_weights_bytes,
    .conv_weights_release = nv_cuda_conv_weights_release,
    .conv = nv_cuda_conv,
    .patchify = nv_cuda_patchify,
    .unpatchify = nv_cuda_unpatchify,
    .sinusoid = nv_cuda_sinusoid,
    .modulation = nv_cuda_modulation,
    .modulation_backward = nv_cuda_modulation_backward,
    .embed = nv_cuda_embed,
    .embed_backward = nv_cuda_embed_backward,
    .noise = nv_cuda_noise,
    .solve = nv_cuda_solve,
    .mse = nv_cuda_mse,
    .sum_squares = nv_cuda_sum_squares,
    .adamw = nv_cuda_adamw,
};

static nabla_status make_context(nv_cuda *d, const nv_device_options *options, nv_error *err) {
    nabla_context_options co = nabla_context_options_default();
    char message[256] = "";
    co.device = NABLA_CUDA;
    co.ordinal = options->ordinal;
    co.level = options->level;
    co.stream = d->stream;
    co.memory_pool = nv_cuda_pool(d);
    const nabla_status status = nabla_context_create(&co, &d->base.context, message, sizeof message);
    return status ? nv_fail(err, status, "%s", message) : NABLA_OK;
}

static nabla_status start(nv_cuda *d, const nv_device_options *options, nv_error *err) {
    nabla_device_info info = {.size = sizeof info};
    char message[256] = "";
    cudaStream_t stream = NULL;
    const nabla_status status = nabla_device_describe(NABLA_CUDA, options->ordinal, &info, message, sizeof message);
    if (status) return nv_fail(err, status, "%s", message);
    d->ordinal = options->ordinal;
    snprintf(d->base.name, sizeof d->base.name, "%s", info.name);
    NV_TRY(nv_cuda_check(d, cudaSetDevice(d->ordinal), "choosing a GPU", err));
    NV_TRY(nv_cuda_check(d, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream", err));
    d->stream = stream;
    NV_TRY(nv_cuda_memory_open(d, err));
    NV_TRY(make_context(d, options, err));
    NV_TRY(nv_cuda_timer_open(d, err));
    NV_TRY(nv_cuda_products_open(d, err));
    d->base.ops = &cuda_ops;
    d->base.kind = "cuda";
    d->base.threads = options->threads ? options->threads : omp_get_num_procs(); /* for work on the host */
    d->base.level = nabla_context_level(d->base.context);
    return NABLA_OK;
}

nabla_status nv_cuda_create(const nv_device_options *options, nv_device **out, nv_error *err) {
    nv_cuda *d = calloc(1, sizeof *d);
    if (!d) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a device");
    const nabla_status status = start(d, options, err);
    if (status == NABLA_OK)
        *out = &d->base;
    else
        destroy(&d->base);
    return status;
}

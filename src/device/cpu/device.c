/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device: creation, memory, and how rows are shared out. */
#include "device/cpu/cpu.h"
#include "tensor/arena.h"
#include "tensor/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *products(const nv_device *dev, nabla_dtype dtype) {
    return ((const nv_cpu *)(const void *)dev)->products[dtype == NABLA_BF16];
}

static nabla_status wait(nv_device *dev, nv_error *err) {
    (void)dev;
    (void)err;
    return NABLA_OK;
}

static nabla_status choices(nv_device *dev, char **out, nv_error *err) {
    (void)dev;
    *out = calloc(1, 1);
    return *out ? NABLA_OK : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a text");
}

static nabla_status choose(nv_device *dev, const char *text, int32_t *lost, nv_error *err) {
    (void)dev;
    *lost = 0;
    return text[0] ? nv_fail(err, NABLA_CORRUPT, "the CPU chooses nothing, and was told \"%.40s\"", text) : NABLA_OK;
}

/* ------------------------------------------------------------------------------------------ time */

static nv_phase change_phase(nv_device *dev, nv_phase phase) {
    nv_cpu *cpu = nv_cpu_of(dev);
    const nv_phase before = cpu->phase;
    const double now = nv_now();
    cpu->clock.seconds[before] += now - cpu->since;
    cpu->since = now;
    cpu->phase = phase;
    return before;
}

static void clock_reset(nv_device *dev) {
    nv_cpu *cpu = nv_cpu_of(dev);
    cpu->clock = (nv_clock){0};
    cpu->since = nv_now();
}

static void clock_read(nv_device *dev, nv_clock *out) {
    change_phase(dev, nv_cpu_of(dev)->phase);
    *out = nv_cpu_of(dev)->clock;
}

/* ------------------------------------------------------------------------------------------ memory */

/* Written first by the threads that will use it, so that on machines with several memories it spreads over them. */
static void zero(nv_device *dev, void *data, size_t bytes) {
    const int64_t piece = (int64_t)1 << 20, count = ((int64_t)bytes + piece - 1) / piece;
#pragma omp parallel for num_threads(dev->threads) schedule(static) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        const size_t first = (size_t)(i * piece), left = bytes - first;
        memset((unsigned char *)data + first, 0, left < (size_t)piece ? left : (size_t)piece);
    }
}

static nabla_status allocate(nv_device *dev, size_t bytes, void **out, nv_error *err) {
    if (nabla_memory_allocate(dev->context, bytes, out))
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %.1f MB; use a smaller batch or size",
                       (double)bytes / 1e6);
    zero(dev, *out, bytes);
    return NABLA_OK;
}

static void memory(nv_device *dev, nv_device_memory *out) {
    (void)dev;
    *out = (nv_device_memory){nv_memory_total(), nv_memory_available(), nv_memory_peak()};
}

static void release(nv_device *dev, void *data) {
    nabla_memory_free(dev->context, data);
}

static void copy(nv_device *dev, void *dst, const void *src, size_t bytes) {
    const int64_t piece = (int64_t)1 << 20, count = ((int64_t)bytes + piece - 1) / piece;
#pragma omp parallel for num_threads(dev->threads) schedule(static) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        const size_t first = (size_t)(i * piece), left = bytes - first;
        memcpy((unsigned char *)dst + first, (const unsigned char *)src + first,
               left < (size_t)piece ? left : (size_t)piece);
    }
}

static nabla_status download(nv_device *dev, void *dst, const void *src, size_t bytes, nv_error *err) {
    (void)err;
    copy(dev, dst, src, bytes);
    return NABLA_OK;
}

/* The device's memory is the host's. */
static nabla_status host_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err) {
    return allocate(dev, bytes, out, err);
}

static void fetch(nv_device *dev, int32_t lane, void *dst, const void *src, size_t bytes) {
    (void)lane;
    copy(dev, dst, src, bytes);
}

static void nothing_under_way(nv_device *dev, int32_t lane) {
    (void)dev;
    (void)lane;
}

nabla_status nv_cpu_scratch(nv_cpu *cpu, nv_scratch_use use, size_t bytes, void **out, nv_error *err) {
    struct nv_scratch *s = &cpu->scratch[use];
    if (bytes > s->bytes) { /* what it held is not needed */
        nabla_memory_free(cpu->base.context, s->data);
        *s = (struct nv_scratch){0};
        if (nabla_memory_allocate(cpu->base.context, bytes, &s->data))
            return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %.1f MB of scratch", (double)bytes / 1e6);
        s->bytes = bytes;
    }
    *out = s->data;
    return NABLA_OK;
}

nv_chunks nv_cpu_chunks(int64_t rows, int64_t group_rows) {
    const int64_t wanted = 128, least = 32; /* chunks in all: enough for many cores, few partial sums to add up */
    int64_t chunk = (rows + wanted - 1) / wanted;
    if (chunk < least) chunk = least;
    if (chunk > group_rows) chunk = group_rows;
    const int64_t per_group = (group_rows + chunk - 1) / chunk;
    return (nv_chunks){group_rows, chunk, per_group, rows / group_rows * per_group};
}

static void trim(nv_device *dev) {
    nv_cpu *cpu = nv_cpu_of(dev);
    for (int i = 0; i < NV_SCRATCH_USES; i++)
        nabla_memory_free(dev->context, cpu->scratch[i].data);
    memset(cpu->scratch, 0, sizeof cpu->scratch);
    nabla_context_trim(dev->context);
}

/* ------------------------------------------------------------------------------------------ creation */

static void destroy(nv_device *dev) {
    nv_cpu *cpu = nv_cpu_of(dev);
    nv_onednn_destroy(cpu->onednn);
    if (dev->context) trim(dev);
    nabla_context_destroy(dev->context);
    free(cpu);
}

static const nv_device_ops cpu_ops = {
    .destroy = destroy,
    .products = products,
    .wait = wait,
    .choices = choices,
    .choose = choose,
    .phase = change_phase,
    .clock_reset = clock_reset,
    .clock_read = clock_read,
    .memory = memory,
    .allocate = allocate,
    .release = release,
    .zero = zero,
    .copy = copy,
    .upload = copy,
    .download = download,
    .trim = trim,
    .host_allocate = host_allocate,
    .host_release = release,
    .fetch = fetch,
    .await = nothing_under_way,
    .fetched = nothing_under_way,
    .linear = nv_cpu_linear,
    .linear_activate = nv_cpu_linear_activate,
    .linear_backward_input = nv_cpu_linear_backward_input,
    .linear_backward_weight = nv_cpu_linear_backward_weight,
    .linear_memory = nv_cpu_linear_memory,
    .seam = nv_cpu_seam,
    .seam_backward = nv_cpu_seam_backward,
    .qk_norm = nv_cpu_qk_norm,
    .qk_norm_backward = nv_cpu_qk_norm_backward,
    .activate = nv_cpu_activate,
    .activate_backward = nv_cpu_activate_backward,
    .gate = nv_cpu_gate,
    .softmax = nv_cpu_softmax,
    .cast = nv_cpu_cast,
    .column_sums = nv_cpu_column_sums,
    .add = nv_cpu_add,
    .channel_norm = nv_cpu_channel_norm,
    .upsample = nv_cpu_upsample,
    .conv_weights = nv_cpu_conv_weights,
    .conv_weights_bytes = nv_cpu_conv_weights_bytes,
    .conv_weights_release = nv_cpu_conv_weights_release,
    .conv = nv_cpu_conv,
    .patchify = nv_cpu_patchify,
    .unpatchify = nv_cpu_unpatchify,
    .sinusoid = nv_cpu_sinusoid,
    .modulation = nv_cpu_modulation,
    .modulation_backward = nv_cpu_modulation_backward,
    .embed = nv_cpu_embed,
    .embed_backward = nv_cpu_embed_backward,
    .noise = nv_cpu_noise,
    .solve = nv_cpu_solve,
    .mse = nv_cpu_mse,
    .sum_squares = nv_cpu_sum_squares,
    .adamw = nv_cpu_adamw,
};

/* The row kernels of a level of libnabla's, or of the nearest below. */
static const nv_row_kernels *rows_for(const char *level) {
#ifdef NV_X86
    if (strcmp(level, "avx512bf16") == 0 || strncmp(level, "amx", 3) == 0) return &nv_rows_avx512bf16;
    if (strncmp(level, "avx512", 6) == 0) return &nv_rows_avx512;
    if (strncmp(level, "avx2", 4) == 0) return &nv_rows_avx2;
#endif
    (void)level;
    return &nv_rows_generic;
}

static const nv_tile_kernels *tiles_for(const char *level) {
#ifdef NV_X86
    if (strncmp(level, "amx", 3) == 0) return &nv_tile_kernels_amx;
#endif
    (void)level;
    return NULL;
}

static nabla_status start(nv_cpu *cpu, const nv_device_options *options, nv_error *err) {
    nabla_context_options co = nabla_context_options_default();
    char message[256] = "";
    co.threads = options ? options->threads : 0;
    co.level = options ? options->level : NULL;
    nabla_status status = nabla_context_create(&co, &cpu->base.context, message, sizeof message);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", message);
    cpu->base.ops = &cpu_ops;
    cpu->base.kind = "cpu";
    cpu->since = nv_now();
    cpu->base.threads = nabla_context_threads(cpu->base.context);
    cpu->base.level = nabla_context_level(cpu->base.context);
    cpu->rows = rows_for(cpu->base.level);
    cpu->tiles = tiles_for(cpu->base.level);
    snprintf(cpu->products[0], sizeof cpu->products[0], "own");
    snprintf(cpu->products[1], sizeof cpu->products[1], "own, bf16 as fp32");
    NV_TRY(nv_onednn_create(cpu->base.threads, &cpu->onednn, err));
    for (int i = 0; i < 2 && cpu->onednn; i++)
        cpu->onednn_has[i] = (unsigned char)nv_onednn_supports(cpu->onednn, i ? NABLA_BF16 : NABLA_FP32,
                                                               cpu->products[i], sizeof cpu->products[i]);
    if (cpu->tiles) snprintf(cpu->products[1], sizeof cpu->products[1], "own, in tiles");
    return NABLA_OK;
}

nabla_status nv_cpu_create(const nv_device_options *options, nv_device **out, nv_error *err) {
    nv_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a device");
    const nabla_status status = start(cpu, options, err);
    if (status == NABLA_OK)
        *out = &cpu->base;
    else
        destroy(&cpu->base);
    return status;
}

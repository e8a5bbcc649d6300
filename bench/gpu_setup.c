/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_bench.h"
#include "gpu_inputs.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAVE_SEED = 7 };

const char *gpu_why(const gpu_bench *b) {
    const char *message = b->error[0] || !b->ctx ? b->error : nabla_context_message(b->ctx);
    return message[0] ? message : "for the reason above";
}

nabla_status gpu_cuda(gpu_bench *b, int error) {
    if (error)
        snprintf(b->error, sizeof b->error, "CUDA: %s (error %d)", cudaGetErrorString((cudaError_t)error), error);
    return error ? NABLA_INTERNAL : NABLA_OK;
}

/* ---- opening */

static nabla_status open_context(gpu_bench *b) {
    nabla_context_options options = nabla_context_options_default();
    nabla_status status = gpu_cuda(b, cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking));
    if (status) return status;
    options.device = NABLA_CUDA;
    options.level = b->options->level;
    options.stream = b->stream;
    status = nabla_context_create(&options, &b->ctx, b->error, sizeof b->error);
    for (int i = 0; i < 2 * GPU_MAX_REPEATS && !status; i++)
        status = gpu_cuda(b, cudaEventCreate(b->events + i));
    return status;
}

static nabla_status open_order(gpu_bench *b) {
    nabla_status status = nabla_order_create(b->ctx, &b->options->grid, &b->order);
    if (status) return status;
    b->tokens = nabla_order_tokens(b->order);
    b->blocks = nabla_order_blocks(b->order);
    const size_t bytes = (size_t)b->tokens * sizeof *b->raster;
    void *memory = NULL;
    status = nabla_memory_allocate(b->ctx, bytes, &memory);
    b->raster = memory;
    return status ? status : nabla_memory_upload(b->ctx, memory, nabla_order_raster(b->order), bytes);
}

static gpu_field field_of(const gpu_bench *b, int tensor) {
    return (gpu_field){.x = b->t[tensor].data,
                       .dtype = b->options->dtype,
                       .tokens = b->tokens,
                       .heads = b->options->heads,
                       .head_dim = b->head_dim,
                       .seed = (uint32_t)tensor + 1};
}

nabla_status gpu_open(const gpu_options *options, int64_t head_dim, int tensors, gpu_bench *b) {
    memset(b, 0, sizeof *b);
    b->options = options;
    b->head_dim = head_dim;
    nabla_status status = open_context(b);
    if (!status) status = open_order(b);
    const int64_t shape[] = {1, b->tokens, options->heads, head_dim}, lse[] = {1, options->heads, b->tokens};
    const size_t elements = (size_t)(b->tokens * options->heads * head_dim);
    for (int i = 0; i < tensors && !status; i++) {
        b->t[i] = nabla_tensor_contiguous(NULL, options->dtype, 4, shape);
        status = nabla_memory_allocate(b->ctx, elements * nabla_dtype_size(options->dtype), &b->t[i].data);
    }
    b->lse = nabla_tensor_contiguous(NULL, NABLA_FP32, 3, lse);
    if (tensors > GPU_O && !status)
        status = nabla_memory_allocate(b->ctx, (size_t)(options->heads * b->tokens) * sizeof(float), &b->lse.data);
    for (int i = GPU_V; i < tensors && !status; i++) {
        const gpu_field field = field_of(b, i);
        if (i == GPU_V || i == GPU_D_O) status = gpu_cuda(b, gpu_noise(&field, b->stream));
    }
    return status;
}

void gpu_close(gpu_bench *b) {
    nabla_plan_destroy(b->plan);
    nabla_order_destroy(b->order);
    for (int i = 0; i < GPU_TENSORS && b->ctx; i++)
        nabla_memory_free(b->ctx, b->t[i].data);
    if (b->ctx) nabla_memory_free(b->ctx, b->lse.data);
    if (b->ctx) nabla_memory_free(b->ctx, b->raster);
    nabla_context_destroy(b->ctx);
    for (int i = 0; i < 2 * GPU_MAX_REPEATS; i++)
        if (b->events[i]) cudaEventDestroy(b->events[i]);
    if (b->stream) cudaStreamDestroy(b->stream);
}

nabla_status gpu_fill(gpu_bench *b, const char *inputs) {
    nabla_status status = NABLA_OK;
    b->inputs = inputs;
    for (int i = GPU_Q; i <= GPU_K && !status; i++) {
        const gpu_field field = field_of(b, i);
        status = gpu_cuda(b, strcmp(inputs, "waves")
                                 ? gpu_noise(&field, b->stream)
                                 : gpu_waves(&field, WAVE_SEED, &b->options->grid, b->raster, b->stream));
    }
    return status;
}

nabla_tensor gpu_heads(const gpu_bench *b, int tensor, int64_t heads) {
    nabla_tensor t = b->t[tensor];
    t.shape[2] = heads;
    return t;
}

/* ---- plans */

nabla_plan_desc gpu_plan_desc(const gpu_bench *b, int64_t heads) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = 1;
    desc.heads = heads;
    desc.q_order = desc.k_order = b->order;
    return desc;
}

nabla_status gpu_make_plan(gpu_bench *b, int64_t heads) {
    const nabla_plan_desc desc = gpu_plan_desc(b, heads);
    nabla_plan_destroy(b->plan);
    b->plan = NULL;
    return nabla_plan_create(b->ctx, &desc, &b->plan);
}

static nabla_status take_stats(gpu_bench *b) {
    b->stats = (nabla_plan_stats){.size = sizeof b->stats};
    return nabla_plan_get_stats(b->ctx, b->plan, &b->stats);
}

nabla_status gpu_build(gpu_bench *b, const nabla_policy *policy) {
    nabla_plan_inputs in = nabla_plan_inputs_default();
    in.q = policy->has_nabla ? b->t + GPU_Q : NULL;
    in.k = policy->has_nabla ? b->t + GPU_K : NULL;
    const nabla_status status = nabla_plan_build(b->ctx, b->plan, policy, &in);
    return status ? status : take_stats(b);
}

static uint64_t splitmix(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

nabla_status gpu_keep_random(gpu_bench *b) {
    const int64_t count = b->options->heads * b->blocks * b->blocks;
    const uint64_t below = (uint64_t)(b->options->density * 0x1p32);
    uint64_t state = 1;
    uint8_t *kept = malloc((size_t)count);
    if (!kept) return snprintf(b->error, sizeof b->error, "no memory for a bitmap"), NABLA_OUT_OF_MEMORY;
    for (int64_t i = 0; i < count; i++)
        kept[i] = (splitmix(&state) >> 32) < below;
    const nabla_status status = nabla_plan_import_bitmap(b->ctx, b->plan, kept);
    free(kept);
    return status ? status : take_stats(b);
}

nabla_status gpu_find_thr(gpu_bench *b, nabla_policy *nabla) {
    float low = 0.0f, high = 1.0f;
    for (int i = 0; i < 12; i++) {
        nabla->thr = 0.5f * (low + high);
        const nabla_status status = gpu_build(b, nabla);
        if (status) return status;
        *(b->stats.density > b->options->density ? &high : &low) = nabla->thr;
    }
    return NABLA_OK;
}

/* ---- time */

static int by_size(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double median(float *ms, int n) {
    qsort(ms, (size_t)n, sizeof *ms, by_size);
    return n % 2 ? (double)ms[n / 2] : 0.5 * (double)(ms[n / 2 - 1] + ms[n / 2]);
}

/* Times `repeats` calls, each between two events of its own. */
static nabla_status time_calls(gpu_bench *b, gpu_call *call, const void *arg, bool alone, float *ms) {
    nabla_status status = nabla_context_synchronize(b->ctx);
    for (int i = 0; i < b->options->repeats && !status; i++) {
        status = gpu_cuda(b, cudaEventRecord(b->events[2 * i], b->stream));
        if (!status) status = call(b, arg);
        if (!status) status = gpu_cuda(b, cudaEventRecord(b->events[2 * i + 1], b->stream));
        if (!status && alone) status = nabla_context_synchronize(b->ctx);
    }
    if (!status) status = nabla_context_synchronize(b->ctx);
    for (int i = 0; i < b->options->repeats && !status; i++)
        status = gpu_cuda(b, cudaEventElapsedTime(ms + i, b->events[2 * i], b->events[2 * i + 1]));
    return status;
}

nabla_status gpu_time(gpu_bench *b, gpu_call *call, const void *arg, gpu_times *out) {
    float ms[GPU_MAX_REPEATS] = {0};
    const int n = b->options->repeats;
    nabla_status status = call(b, arg); /* warm-up */
    if (!status) status = time_calls(b, call, arg, true, ms);
    if (status) return status;
    out->lone = median(ms, n);
    status = time_calls(b, call, arg, false, ms);
    if (status) return status;
    out->median = median(ms, n);
    out->least = (double)ms[0];
    out->most = (double)ms[n - 1];
    return NABLA_OK;
}

/* ---- rows */

void gpu_print_header(void) {
    printf("who,measure,lists,inputs,level,dtype,head_dim,tokens,heads,density,kept_mass,ms,min_ms,max_ms,lone_ms,"
           "tflops,extra_mb,note\n");
    fprintf(stderr, "%-24s %-22s %-7s %4s %3s %8s %9s %9s %8s %8s  %s\n", "measure", "lists", "inputs", "D", "H",
            "density", "ms", "lone ms", "TFLOP/s", "extra MB", "note");
}

gpu_row gpu_row_of(const gpu_bench *b, const char *measure, const char *lists) {
    return (gpu_row){.measure = measure,
                     .lists = lists,
                     .inputs = b->inputs ? b->inputs : "",
                     .level = b->ctx ? nabla_context_level(b->ctx) : "",
                     .head_dim = b->head_dim,
                     .heads = b->options->heads,
                     .density = NAN,
                     .kept_mass = NAN,
                     .times = {NAN, NAN, NAN, NAN},
                     .operations = NAN,
                     .extra_mb = NAN};
}

static void field(const char *format, double x) {
    if (!isnan(x)) printf(format, x);
    printf(",");
}

static void cell(int width, const char *format, double x) {
    char text[32] = "";
    if (!isnan(x)) snprintf(text, sizeof text, format, x);
    fprintf(stderr, " %*s", width, text);
}

void gpu_print(const gpu_options *options, const gpu_row *r) {
    const nabla_grid g = options->grid;
    const double tflops = r->operations / r->times.median * 1e-9;
    printf("nabla,%s,%s,%s,%s,%s,%d,%d,%d,", r->measure, r->lists, r->inputs, r->level,
           options->dtype == NABLA_BF16 ? "bf16" : (options->dtype == NABLA_FP16 ? "fp16" : "fp32"), (int)r->head_dim,
           g.frames * g.height * g.width, (int)r->heads);
    field("%.5f", r->density);
    field("%.5f", r->kept_mass);
    field("%.4f", r->times.median);
    field("%.4f", r->times.least);
    field("%.4f", r->times.most);
    field("%.4f", r->times.lone);
    field("%.1f", tflops);
    field("%.1f", r->extra_mb);
    printf("\"%s\"\n", r->note);
    fflush(stdout);
    fprintf(stderr, "%-24s %-22s %-7s %4d %3d", r->measure, r->lists, r->inputs, (int)r->head_dim, (int)r->heads);
    cell(8, "%.4f", r->density);
    cell(9, "%.3f", r->times.median);
    cell(9, "%.3f", r->times.lone);
    cell(8, "%.1f", tflops);
    cell(8, "%.1f", r->extra_mb);
    fprintf(stderr, "  %s\n", r->note);
}

void gpu_print_failure(gpu_bench *b, const char *measure, const char *lists) {
    gpu_row row = gpu_row_of(b, measure, lists);
    snprintf(row.note, sizeof row.note, "failed: %s", gpu_why(b));
    for (char *c = row.note; *c; c++)
        if (*c == '"' || *c == '\n') *c = '\'';
    gpu_print(b->options, &row);
    b->error[0] = '\0';
}

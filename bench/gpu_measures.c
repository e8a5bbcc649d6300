/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_bench.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STA "sta-11-3-3"

/* ---- calls that are timed */

static nabla_status build_call(gpu_bench *b, const void *arg) {
    nabla_plan_inputs in = nabla_plan_inputs_default();
    in.q = b->t + GPU_Q;
    in.k = b->t + GPU_K;
    return nabla_plan_build(b->ctx, b->plan, arg, &in);
}

static nabla_status forward_heads(gpu_bench *b, int64_t heads) {
    const int64_t shape[] = {1, heads, b->tokens};
    const nabla_tensor q = gpu_heads(b, GPU_Q, heads), k = gpu_heads(b, GPU_K, heads), v = gpu_heads(b, GPU_V, heads);
    const nabla_tensor o = gpu_heads(b, GPU_O, heads), lse = nabla_tensor_contiguous(b->lse.data, NABLA_FP32, 3, shape);
    return nabla_attention_forward(b->ctx, b->plan, NULL, &q, &k, &v, &o, &lse);
}

static nabla_status forward_call(gpu_bench *b, const void *arg) {
    const int64_t *heads = arg;
    return forward_heads(b, *heads);
}

static nabla_status together_call(gpu_bench *b, const void *arg) {
    const nabla_status status = build_call(b, arg);
    return status ? status : forward_heads(b, b->options->heads);
}

static nabla_status backward_call(gpu_bench *b, const void *arg) {
    const nabla_tensor *t = b->t;
    return nabla_attention_backward(b->ctx, b->plan, arg, t + GPU_Q, t + GPU_K, t + GPU_V, t + GPU_O, &b->lse,
                                    t + GPU_D_O, t + GPU_D_Q, t + GPU_D_K, t + GPU_D_V);
}

/* ---- lists */

static nabla_status union_policy(gpu_bench *b, nabla_policy *out) {
    char text[64];
    snprintf(text, sizeof text, "nabla-%g_%s", (double)b->options->thr, STA);
    return nabla_policy_parse(b->ctx, text, out);
}

/* Q, K and the plan as a name says: "random", "dense", STA, "union" or "nabla". */
static nabla_status use_lists(gpu_bench *b, const char *lists) {
    const bool waves = !strcmp(lists, "union");
    nabla_policy policy;
    nabla_status status = gpu_fill(b, waves ? "waves" : "noise");
    if (!status) status = gpu_make_plan(b, strcmp(lists, "dense") ? b->options->heads : b->options->dense_heads);
    if (status) return status;
    if (!strcmp(lists, "random")) return gpu_keep_random(b);
    status = waves ? union_policy(b, &policy) : nabla_policy_parse(b->ctx, lists, &policy);
    return status ? status : gpu_build(b, &policy);
}

/* How often a key block is used once it is loaded, if query blocks a and a + step share it: kept / distinct. */
static double reuse(const gpu_bench *b, const uint8_t *bits, int64_t frame_blocks, bool frames) {
    int64_t kept = 0, distinct = 0;
    const int64_t n = b->blocks, step = frames ? frame_blocks : 1;
    for (int64_t row = 0; row < b->options->heads * n; row++) {
        const int64_t block = row % n;
        const bool first = (frames ? block / frame_blocks : block) % 2 == 0;
        const uint8_t *x = bits + row * n, *y = block + step < n ? x + step * n : NULL;
        for (int64_t j = 0; j < n && first; j++) {
            kept += x[j] + (y ? y[j] : 0);
            distinct += x[j] | (y ? y[j] : 0);
        }
    }
    return (double)kept / (double)distinct;
}

static void dump(const gpu_bench *b, const char *lists, const uint8_t *bits, size_t bytes) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.u8", b->options->dump, lists);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bits, 1, bytes, file) != bytes) fprintf(stderr, "gpu_attention: cannot write %s\n", path);
    if (file) fclose(file);
}

/* Brings the plan to the host: says what sharing would give, and writes the lists where they are wanted. */
static nabla_status describe_lists(gpu_bench *b, const char *lists, gpu_row *row) {
    const nabla_grid g = b->options->grid;
    const int64_t high = (g.height + g.tile_height - 1) / g.tile_height;
    const int64_t wide = (g.width + g.tile_width - 1) / g.tile_width;
    const size_t bytes = (size_t)(b->options->heads * b->blocks * b->blocks);
    uint8_t *bits = malloc(bytes);
    if (!bits) return snprintf(b->error, sizeof b->error, "no memory for a bitmap"), NABLA_OUT_OF_MEMORY;
    const nabla_status status = nabla_plan_export_bitmap(b->ctx, b->plan, bits);
    if (!status)
        snprintf(row->note, sizeof row->note, "key blocks used per load: pairs along width %.2f; along frames %.2f",
                 reuse(b, bits, high * wide, false), reuse(b, bits, high * wide, true));
    if (!status && b->options->dump) dump(b, strcmp(lists, STA) ? lists : "sta", bits, bytes);
    free(bits);
    return status;
}

static gpu_row row_of_plan(const gpu_bench *b, const char *measure, const char *lists, int64_t heads, double per_pair) {
    gpu_row row = gpu_row_of(b, measure, lists);
    row.heads = heads;
    row.density = b->stats.density;
    row.kept_mass = b->stats.kept_mass;
    row.operations =
        per_pair * (double)b->head_dim * row.density * (double)heads * (double)b->tokens * (double)b->tokens;
    return row;
}

/* ---- forward */

static nabla_status forward_over(gpu_bench *b, const char *lists) {
    const bool dense = !strcmp(lists, "dense");
    const int64_t heads = dense ? b->options->dense_heads : b->options->heads;
    nabla_status status = use_lists(b, lists);
    if (status) return status;
    gpu_row row = row_of_plan(b, "forward", lists, heads, 4.0);
    status = gpu_time(b, forward_call, &heads, &row.times);
    if (!status && !dense) status = describe_lists(b, lists, &row);
    if (!status) gpu_print(b->options, &row);
    return status;
}

int gpu_forward(const gpu_options *options, int64_t head_dim) {
    static const char *const lists[] = {"random", STA, "union", "dense"};
    gpu_bench b;
    int failures = 0;
    nabla_status opened = gpu_open(options, head_dim, GPU_O + 1, &b);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (opened || forward_over(&b, lists[i])) {
            gpu_print_failure(&b, "forward", lists[i]);
            failures++;
        }
    gpu_close(&b);
    return failures;
}

/* ---- backward */

static nabla_status backward_once(gpu_bench *b, const char *lists, bool deterministic) {
    const nabla_plan_desc desc = gpu_plan_desc(b, b->options->heads);
    nabla_attention_params params = nabla_attention_params_default();
    gpu_row row =
        row_of_plan(b, deterministic ? "backward deterministic" : "backward any order", lists, b->options->heads, 10.0);
    size_t plan = 0, forward = 0, scratch = 0;
    params.deterministic = deterministic;
    nabla_status status = gpu_time(b, backward_call, &params, &row.times);
    if (!status) status = nabla_plan_memory(b->ctx, &desc, &plan);
    if (!status) status = nabla_attention_memory(b->ctx, &desc, &params, b->options->dtype, b->head_dim, 0, &forward);
    if (!status) status = nabla_attention_memory(b->ctx, &desc, &params, b->options->dtype, b->head_dim, 1, &scratch);
    if (status) return status;
    row.extra_mb = (double)scratch * 1e-6;
    snprintf(row.note, sizeof row.note,
             "extra: scratch; forward and building take %.1f MB of it; the plan %.1f MB more", (double)forward * 1e-6,
             (double)plan * 1e-6);
    gpu_print(b->options, &row);
    return NABLA_OK;
}

int gpu_backward(const gpu_options *options, int64_t head_dim) {
    static const char *const lists[] = {"random", STA, "union"};
    gpu_bench b;
    int failures = 0;
    nabla_status opened = gpu_open(options, head_dim, GPU_TENSORS, &b);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        nabla_status ready = opened ? opened : use_lists(&b, lists[i]);
        if (!ready) ready = forward_heads(&b, options->heads);
        for (int deterministic = 1; deterministic >= 0; deterministic--)
            if (ready || backward_once(&b, lists[i], deterministic)) {
                gpu_print_failure(&b, deterministic ? "backward deterministic" : "backward any order", lists[i]);
                failures++;
            }
    }
    gpu_close(&b);
    return failures;
}

/* ---- masks */

/* What the GPU's memory loses by a plan and its first build, in a context of its own. The first of two contexts makes
   CUDA load the kernels, which stay; the second counts. */
static nabla_status mask_memory(gpu_bench *b, const nabla_policy *policy, double *mb) {
    gpu_bench other = {.options = b->options, .head_dim = b->head_dim, .order = b->order};
    nabla_context_options options = nabla_context_options_default();
    const nabla_plan_desc desc = gpu_plan_desc(b, b->options->heads);
    nabla_status status = nabla_context_synchronize(b->ctx);
    options.device = NABLA_CUDA;
    options.level = b->options->level;
    memcpy(other.t, b->t, sizeof other.t);
    for (int i = 0; i < 2 && !status; i++) {
        size_t before = 0, after = 0, total;
        other.plan = NULL;
        status = nabla_context_create(&options, &other.ctx, b->error, sizeof b->error);
        if (status) break;
        cudaMemGetInfo(&before, &total);
        status = nabla_plan_create(other.ctx, &desc, &other.plan);
        if (!status) status = build_call(&other, policy);
        if (!status) status = nabla_context_synchronize(other.ctx);
        cudaMemGetInfo(&after, &total);
        *mb = ((double)before - (double)after) * 1e-6;
        if (status) snprintf(b->error, sizeof b->error, "%s", nabla_context_message(other.ctx));
        nabla_plan_destroy(other.plan);
        nabla_context_destroy(other.ctx);
    }
    return status;
}

static nabla_status mask_of(gpu_bench *b, const char *inputs, bool with_sta) {
    const nabla_plan_desc desc = gpu_plan_desc(b, b->options->heads);
    nabla_policy policy;
    size_t plan = 0, scratch = 0;
    nabla_status status = gpu_fill(b, inputs);
    if (!status) status = union_policy(b, &policy);
    if (!status) status = gpu_make_plan(b, b->options->heads);
    if (status) return status;
    policy.has_sta = with_sta;
    status = gpu_build(b, &policy);
    gpu_row row = row_of_plan(b, "mask", with_sta ? "union" : "nabla", b->options->heads, NAN);
    if (!status) status = gpu_time(b, build_call, &policy, &row.times);
    if (!status) status = mask_memory(b, &policy, &row.extra_mb);
    if (!status) status = nabla_plan_memory(b->ctx, &desc, &plan);
    if (!status) status = nabla_attention_memory(b->ctx, &desc, NULL, b->options->dtype, b->head_dim, 0, &scratch);
    if (status) return status;
    snprintf(row.note, sizeof row.note, "both directions; thr %g; extra: measured; plan %.1f MB and scratch %.1f MB",
             (double)b->options->thr, (double)plan * 1e-6, (double)scratch * 1e-6);
    gpu_print(b->options, &row);
    return NABLA_OK;
}

int gpu_masks(const gpu_options *options, int64_t head_dim) {
    gpu_bench b;
    int failures = 0;
    nabla_status opened = gpu_open(options, head_dim, GPU_K + 1, &b);
    for (int i = 0; i < 3; i++)
        if (opened || mask_of(&b, i == 2 ? "noise" : "waves", i == 0)) {
            gpu_print_failure(&b, "mask", i == 0 ? "union" : "nabla");
            failures++;
        }
    gpu_close(&b);
    return failures;
}

/* ---- attention with its mask */

static nabla_status together_over(gpu_bench *b, const char *inputs) {
    nabla_policy policy;
    nabla_status status = gpu_fill(b, inputs);
    if (!status) status = nabla_policy_parse(b->ctx, "nabla-0.5", &policy);
    if (!status) status = gpu_make_plan(b, b->options->heads);
    if (!status) status = gpu_find_thr(b, &policy);
    if (status) return status;
    gpu_row row = row_of_plan(b, "mask and forward", "nabla", b->options->heads, 4.0);
    status = gpu_time(b, together_call, &policy, &row.times);
    if (status) return status;
    snprintf(row.note, sizeof row.note, "thr %.5f found by bisection; the mask's time is in it", (double)policy.thr);
    gpu_print(b->options, &row);
    return NABLA_OK;
}

int gpu_together(const gpu_options *options, int64_t head_dim) {
    static const char *const inputs[] = {"noise", "waves"};
    gpu_bench b;
    int failures = 0;
    nabla_status opened = gpu_open(options, head_dim, GPU_O + 1, &b);
    for (int i = 0; i < 2; i++)
        if (opened || together_over(&b, inputs[i])) {
            gpu_print_failure(&b, "mask and forward", "nabla");
            failures++;
        }
    gpu_close(&b);
    return failures;
}

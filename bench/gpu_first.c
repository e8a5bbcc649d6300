/* SPDX-License-Identifier: Apache-2.0 */
/* What a process waits for its first attention: host clock, nothing warm. */
#include "gpu_bench.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { STAGES = 6 };

typedef struct first {
    gpu_bench b;
    double started, ms[STAGES]; /* since started */
    int done;
} first;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static nabla_status passed(first *f, nabla_status status) {
    if (!status) f->ms[f->done++] = now() - f->started;
    return status;
}

/* A plan and zeros for tensors, by the library alone. */
static nabla_status make(first *f) {
    gpu_bench *b = &f->b;
    const gpu_options *o = b->options;
    nabla_status status = nabla_order_create(b->ctx, &o->grid, &b->order);
    if (status) return status;
    b->tokens = nabla_order_tokens(b->order);
    const int64_t shape[] = {1, b->tokens, o->heads, b->head_dim}, lse[] = {1, o->heads, b->tokens};
    const size_t bytes = (size_t)(b->tokens * o->heads * b->head_dim) * nabla_dtype_size(o->dtype);
    status = gpu_make_plan(b, o->heads);
    for (int i = 0; i < GPU_TENSORS && !status; i++) {
        b->t[i] = nabla_tensor_contiguous(NULL, o->dtype, 4, shape);
        status = nabla_memory_allocate(b->ctx, bytes, &b->t[i].data);
        if (!status) status = gpu_cuda(b, cudaMemset(b->t[i].data, 0, bytes));
    }
    b->lse = nabla_tensor_contiguous(NULL, NABLA_FP32, 3, lse);
    if (!status) status = gpu_cuda(b, cudaDeviceSynchronize()); /* the context's stream does not wait for zeros */
    return status ? status : nabla_memory_allocate(b->ctx, (size_t)(o->heads * b->tokens) * 4, &b->lse.data);
}

static nabla_status run(first *f) {
    gpu_bench *b = &f->b;
    const nabla_tensor *t = b->t;
    nabla_context_options options = nabla_context_options_default();
    nabla_plan_inputs in = nabla_plan_inputs_default();
    nabla_policy policy;
    options.device = NABLA_CUDA;
    options.level = b->options->level;
    in.q = t + GPU_Q;
    in.k = t + GPU_K;
    nabla_status status = passed(f, nabla_context_create(&options, &b->ctx, b->error, sizeof b->error));
    if (!status) status = passed(f, make(f));
    if (!status) status = nabla_policy_parse(b->ctx, "nabla-0.7_sta-11-3-3", &policy);
    if (!status) status = passed(f, nabla_plan_build(b->ctx, b->plan, &policy, &in));
    if (!status)
        status = passed(
            f, nabla_attention_forward(b->ctx, b->plan, NULL, t + GPU_Q, t + GPU_K, t + GPU_V, t + GPU_O, &b->lse));
    if (!status) status = passed(f, nabla_context_synchronize(b->ctx));
    if (!status)
        status = nabla_attention_backward(b->ctx, b->plan, NULL, t + GPU_Q, t + GPU_K, t + GPU_V, t + GPU_O, &b->lse,
                                          t + GPU_D_O, t + GPU_D_Q, t + GPU_D_K, t + GPU_D_V);
    return status ? status : passed(f, nabla_context_synchronize(b->ctx));
}

int gpu_first_call(const gpu_options *options, int64_t head_dim) {
    gpu_options small = *options;
    first f = {.b = {.options = &small, .head_dim = head_dim}, .started = now()};
    const double *ms = f.ms;
    small.grid = nabla_grid_default(5, 16, 24);
    small.heads = 4;
    const nabla_status status = run(&f);
    if (status)
        gpu_print_failure(&f.b, "first call", "union");
    else {
        gpu_row row = gpu_row_of(&f.b, "first call", "union");
        row.times.lone = row.times.median = ms[4];
        snprintf(
            row.note, sizeof row.note,
            "host clock of a fresh process up to the result: context %.0f; plan and memory %.0f; mask queued %.0f; "
            "forward queued %.0f; done %.0f; then the first backward %.0f ms",
            ms[0], ms[1] - ms[0], ms[2] - ms[1], ms[3] - ms[2], ms[4] - ms[3], ms[5] - ms[4]);
        gpu_print(&small, &row);
    }
    gpu_close(&f.b);
    return status != NABLA_OK;
}

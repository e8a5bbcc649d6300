/* SPDX-License-Identifier: Apache-2.0 */
#include "bits.h"
#include "cpu.h"
#include "layout.h"
#include "tasks.h"

#include <math.h>
#include <omp.h>

/* Packed keys and values of as many heads at a time as fit in this, and of at least one. */
static const size_t pack_limit = (size_t)512 << 20;

/* The scratch of one call, in bytes from its base. */
typedef struct forward_layout {
    size_t bytes;
    int64_t group;    /* heads whose keys and values are packed together */
    size_t packed;    /* bytes of one head's packed keys, and of its values; 0 where the level does not pack */
    int32_t together; /* pieces of neighbouring queries in a task */
    size_t packed_k, packed_v, tasks, threads, lists, thread_bytes;
} forward_layout;

typedef struct forward_run {
    const nabla_call *call;
    const nabla_forward_kernels *kernels;
    forward_layout at;
    char *base;
} forward_run;

static const nabla_forward_kernels *kernels_of(const nabla_call *call, bool int8) {
    return int8 ? &call->ctx->kernels.of[call->dtype].forward_int8 : &call->ctx->kernels.of[call->dtype].forward;
}

/* As many as the level likes, but enough tasks that no thread waits long for the last of another. */
static int32_t pieces_a_task(const nabla_context *ctx, const nabla_plan *plan, const nabla_forward_kernels *kernels) {
    enum { TASKS = 8 /* a thread */ };
    const int64_t pieces = nabla_count_mul(plan->batch * plan->heads, plan->q_piece_count);
    int32_t together = kernels->together;
    while (together > 1 && pieces / together < (int64_t)TASKS * ctx->threads)
        together--;
    return together > 1 ? together : 1;
}

static nabla_status lay_out(const nabla_call *call, bool int8, forward_layout *at) {
    nabla_context *ctx = call->ctx;
    const nabla_plan *plan = call->plan;
    const nabla_forward_kernels *kernels = kernels_of(call, int8);
    const int64_t heads = plan->batch * plan->heads, k_pieces = plan->k_piece_count;
    nabla_layout all = {0}, one = {0};
    *at = (forward_layout){.group = heads, .together = pieces_a_task(ctx, plan, kernels)};
    if (kernels->pack_k) {
        at->packed = kernels->packed_size(k_pieces, call->head_dim);
        at->packed = (at->packed + NABLA_ALIGN - 1) & ~(size_t)(NABLA_ALIGN - 1);
        const int64_t fit = (int64_t)(pack_limit / (2 * at->packed));
        at->group = fit < 1 ? 1 : fit < heads ? fit : heads;
    }
    nabla_layout_take(&one, 1, kernels->scratch(call->head_dim));
    at->lists = nabla_layout_take(&one, nabla_count_mul(at->together, plan->nk), sizeof(int32_t));
    at->thread_bytes = one.bytes;
    at->packed_k = nabla_layout_take(&all, at->group, at->packed);
    at->packed_v = nabla_layout_take(&all, at->group, at->packed);
    at->tasks = nabla_layout_take(&all, nabla_count_mul(at->group, plan->q_piece_count), sizeof(nabla_task));
    at->threads = nabla_layout_take(&all, ctx->threads, at->thread_bytes);
    at->bytes = all.bytes;
    if (all.overflow || one.overflow)
        return nabla_fail(ctx, NABLA_OVERFLOW,
                          "attention over %lld heads of %lld tokens needs more than memory can hold", (long long)heads,
                          (long long)plan->k_tokens);
    return NABLA_OK;
}

/* Of either precision: which one a plan asks for is known when it is built. */
nabla_status nabla_cpu_forward_memory(const nabla_call *call, size_t *bytes) {
    forward_layout at, at_int8;
    nabla_status status = lay_out(call, false, &at);
    if (!status) status = lay_out(call, true, &at_int8);
    *bytes = status ? 0 : at.bytes > at_int8.bytes ? at.bytes : at_int8.bytes;
    return status;
}

/* The mean key of heads [first, first + count), ahead of their packed keys. Taking it off changes no softmax, and
   leaves smaller numbers to round: means of K are large in video models. A mean that is no number is not used, so that
   a NaN in a block that nobody keeps stays there. */
static void find_means(const forward_run *r, int64_t first, int64_t count) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
#pragma omp parallel for num_threads(call->ctx->threads) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        float *mean = (float *)(void *)(r->base + r->at.packed_k + (size_t)n * r->at.packed);
        const nabla_rows k = nabla_tensor_rows(call->k, (first + n) / plan->heads, (first + n) % plan->heads);
        call->ctx->kernels.of[call->dtype].block_mean(k, 0, (int32_t)plan->k_tokens, call->head_dim, mean);
        for (int32_t d = 0; d < call->head_dim; d++)
            if (!isfinite(mean[d])) mean[d] = 0.0f;
    }
}

/* Packs keys and values of heads [first, first + count). */
static void pack(const forward_run *r, int64_t first, int64_t count) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const nabla_pack_fn pack_k = r->kernels->pack_k, pack_v = r->kernels->pack_v;
    if (plan->int8) find_means(r, first, count);
#pragma omp parallel for num_threads(call->ctx->threads) schedule(static)
    for (int64_t i = 0; i < count * plan->nk; i++) {
        const int64_t n = i / plan->nk, b = (first + n) / plan->heads, h = (first + n) % plan->heads,
                      block = i % plan->nk;
        const nabla_rows k = nabla_tensor_rows(call->k, b, h), v = nabla_tensor_rows(call->v, b, h);
        char *packed_k = r->base + r->at.packed_k + (size_t)n * r->at.packed;
        char *packed_v = r->base + r->at.packed_v + (size_t)n * r->at.packed;
        int32_t row = plan->k_offsets[block];
        for (int32_t piece = plan->k_pieces[block]; piece < plan->k_pieces[block + 1]; piece++, row += NABLA_Q_ROWS) {
            const int32_t end = plan->k_offsets[block + 1];
            const int32_t last = end - row < NABLA_Q_ROWS ? end : row + NABLA_Q_ROWS;
            pack_k(k, row, last, call->head_dim, piece, packed_k);
            pack_v(v, row, last, call->head_dim, piece, packed_v);
        }
    }
}

static int32_t piece_end(const nabla_plan *plan, int64_t block, int32_t row) {
    const int32_t end = plan->q_offsets[block + 1];
    return end - row < NABLA_Q_ROWS ? end : row + NABLA_Q_ROWS;
}

/* The tasks of heads [first, first + count); returns how many. */
static int64_t make_tasks(const forward_run *r, int64_t first, int64_t count, nabla_task *tasks) {
    const nabla_plan *plan = r->call->plan;
    int64_t n = 0;
    for (int64_t head = first; head < first + count; head++) {
        int32_t pieces = 0; /* of the head */
        for (int64_t block = 0; block < plan->nq; block++) {
            const uint64_t *bits = nabla_plan_row(plan, plan->set_of[head], block);
            const int64_t kept = nabla_count_bits(bits, plan->k_words);
            const int32_t end = plan->q_offsets[block + 1];
            for (int32_t row = plan->q_offsets[block]; row < end; pieces++) {
                const int32_t last = piece_end(plan, block, row);
                if (pieces % r->at.together == 0)
                    tasks[n++] = (nabla_task){.head = (int32_t)head, .block = (int32_t)block, .first = row};
                tasks[n - 1].end = (int32_t)block + 1;
                tasks[n - 1].last = last;
                tasks[n - 1].cost += (last - row) * kept;
                row = last;
            }
        }
    }
    nabla_order_tasks(tasks, n, nabla_ceil_div(plan->q_pieces[plan->nq], r->at.together), r->call->ctx->threads);
    return n;
}

/* The piece of rows [row, last) of a block. */
static nabla_forward_task task_of(const forward_run *r, int64_t head, int64_t block, int32_t row, int32_t last,
                                  int64_t group_first, int32_t *list) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const int64_t b = head / plan->heads, h = head % plan->heads;
    const size_t packed = (size_t)(head - group_first) * r->at.packed;
    return (nabla_forward_task){
        .q = {.data = nabla_tensor_at(call->q, b, row, h), .stride = call->q->stride[1]},
        .q_count = last - row,
        .k = nabla_tensor_rows(call->k, b, h),
        .v = nabla_tensor_rows(call->v, b, h),
        .k_offsets = plan->k_offsets,
        .blocks = list,
        .block_count = nabla_list_bits(nabla_plan_row(plan, plan->set_of[head], block), plan->k_words, list),
        .head_dim = call->head_dim,
        .scale = call->scale,
        .alpha = call->alpha,
        .beta = call->beta,
        .o = nabla_tensor_at(call->o, b, row, h),
        .o_stride = call->o->stride[1],
        .o_dtype = call->o->dtype,
        .lse = call->lse ? (float *)call->lse->data + head * plan->q_tokens + row : NULL,
        .packed_k = r->at.packed ? r->base + r->at.packed_k + packed : NULL,
        .packed_v = r->at.packed ? r->base + r->at.packed_v + packed : NULL,
        .k_pieces = plan->k_pieces,
    };
}

static void run_task(const forward_run *r, const nabla_task *task, int64_t group_first, int32_t thread) {
    const nabla_plan *plan = r->call->plan;
    char *scratch = r->base + r->at.threads + (size_t)thread * r->at.thread_bytes;
    int32_t *lists = (int32_t *)(scratch + r->at.lists);
    nabla_forward_task pieces[NABLA_FORWARD_TOGETHER];
    int64_t block = task->block;
    for (int32_t n = 0, row = task->first; row < task->last; n++) {
        while (row == plan->q_offsets[block + 1])
            block++;
        const int32_t last = piece_end(plan, block, row);
        pieces[n] = task_of(r, task->head, block, row, last, group_first, lists + n * plan->nk);
        pieces[n].scratch = scratch;
        if (n) pieces[n - 1].next = pieces + n;
        row = last;
    }
    r->kernels->run(pieces);
}

nabla_status nabla_cpu_forward(const nabla_call *call) {
    nabla_context *ctx = call->ctx;
    const nabla_plan *plan = call->plan;
    forward_run r = {.call = call, .kernels = kernels_of(call, plan->int8)};
    void *base;
    nabla_status status = lay_out(call, plan->int8, &r.at);
    if (!status) status = nabla_context_scratch(ctx, r.at.bytes, &base);
    if (status) return status;
    r.base = base;
    const int64_t heads = plan->batch * plan->heads;
    nabla_task *tasks = (nabla_task *)(r.base + r.at.tasks);
    for (int64_t first = 0; first < heads; first += r.at.group) {
        const int64_t group = heads - first < r.at.group ? heads - first : r.at.group;
        if (r.at.packed) pack(&r, first, group);
        const int64_t count = make_tasks(&r, first, group, tasks);
#pragma omp parallel for num_threads(ctx->threads) schedule(dynamic, 1)
        for (int64_t i = 0; i < count; i++)
            run_task(&r, tasks + i, first, omp_get_thread_num());
    }
    return NABLA_OK;
}

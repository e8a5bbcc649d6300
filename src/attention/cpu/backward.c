/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward pass. Keys' gradients go block by block over the plan's columns. Queries' gradients either come along
 * (one thread owns a head) or in a second pass over the rows, so that blocks of one head spread over threads. The first
 * pass keeps dS for the second, as many columns at a time as memory allows: five products a tile either way. Where it
 * cannot (blocks longer than 64, level generic), the second pass makes it again: seven. All give the same bits, so the
 * fastest runs. Where bits may differ from call to call (deterministic = 0), blocks of one head spread over threads in
 * one pass, each thread adds up query gradients of its own, and their sum follows.
 */
#include "backward_layout.h"
#include "bits.h"
#include "layout.h"
#include "rows.h"
#include "tasks.h"

#include <omp.h>

typedef struct backward_run {
    const nabla_call *call;
    backward_layout at;
    char *base;
    int32_t first, last; /* KEPT_DS: the columns at hand */
} backward_run;

static void *in_slot(const backward_run *r, int64_t slot, size_t which) {
    return r->base + r->at.gradients + (size_t)slot * r->at.slot_bytes + which;
}

static float *gradient(const backward_run *r, int64_t slot, size_t which) {
    return in_slot(r, slot, which);
}

static float *private_sum(const backward_run *r, int32_t thread) {
    return (float *)(r->base + r->at.sums + (size_t)thread * r->at.sum_bytes);
}

/* A task of `head` with its queries' gradients in `slot`; the caller adds block and partners. */
static nabla_backward_task task_of(const backward_run *r, int64_t head, int64_t slot, int32_t thread) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const int64_t b = head / plan->heads, h = head % plan->heads;
    char *const own = r->base + r->at.threads + (size_t)thread * r->at.thread_bytes;
    return (nabla_backward_task){
        .q = nabla_tensor_rows(r->call->q, b, h),
        .k = nabla_tensor_rows(r->call->k, b, h),
        .v = nabla_tensor_rows(r->call->v, b, h),
        .d_o = nabla_tensor_rows(r->call->d_o, b, h),
        .d_o_dtype = r->call->d_o->dtype,
        .q_offsets = plan->q_offsets,
        .k_offsets = plan->k_offsets,
        .head_dim = call->head_dim,
        .scale = call->scale,
        .alpha = call->alpha,
        .lse = (const float *)r->call->lse->data + head * plan->q_tokens,
        .delta = gradient(r, slot, r->at.delta),
        .dq = r->at.scheme == PRIVATE_SUMS ? private_sum(r, thread) : gradient(r, slot, r->at.dq),
        .dk = (float *)(own + r->at.dk),
        .dv = (float *)(own + r->at.dv),
        .q_pieces = plan->q_pieces,
        .k_pieces = plan->k_pieces,
        .packed_q = in_slot(r, slot, r->at.packed_q),
        .packed_k = in_slot(r, slot, r->at.packed_k),
        .scratch = own,
    };
}

static bool packs(const backward_run *r) {
    return r->call->ctx->kernels.of[r->call->dtype].pack_queries;
}

/* What kernels read of a block of queries: delta, and what the level packs. */
static void prepare_queries(const backward_run *r, int64_t head, int64_t slot, int64_t block, int32_t thread) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const int64_t b = head / plan->heads, h = head % plan->heads;
    const int32_t first = plan->q_offsets[block], last = plan->q_offsets[block + 1];
    const nabla_rows o = {.data = nabla_tensor_at(call->o, b, first, h), .stride = call->o->stride[1]};
    const nabla_rows d_o = {.data = nabla_tensor_at(call->d_o, b, first, h), .stride = call->d_o->stride[1]};
    nabla_backward_task t = task_of(r, head, slot, thread);
    t.block = (int32_t)block;
    call->ctx->kernels.delta(o, call->o->dtype, d_o, call->d_o->dtype, last - first, call->head_dim, call->alpha,
                             gradient(r, slot, r->at.delta) + first);
    if (packs(r)) call->ctx->kernels.of[call->dtype].pack_queries(&t);
}

/* first: of the blocks whose keys are there at a time. */
static void prepare_keys(const backward_run *r, int64_t head, int64_t slot, int64_t first, int64_t block,
                         int32_t thread) {
    if (!packs(r)) return;
    nabla_backward_task t = task_of(r, head, slot, thread);
    t.block = (int32_t)block;
    t.first_k_piece = r->call->plan->k_pieces[first];
    r->call->ctx->kernels.of[r->call->dtype].pack_keys(&t);
}

/* Heads [first, first + count), in slots from 0 on. */
static void prepare_heads(const backward_run *r, int64_t first, int64_t count) {
    const int64_t nq = r->call->plan->nq, blocks = nq + r->call->plan->nk;
#pragma omp parallel for num_threads(r->call->ctx->threads) schedule(static)
    for (int64_t i = 0; i < count * blocks; i++) {
        const int64_t slot = i / blocks, block = i % blocks;
        if (block < nq)
            prepare_queries(r, first + slot, slot, block, omp_get_thread_num());
        else
            prepare_keys(r, first + slot, slot, 0, block - nq, omp_get_thread_num());
    }
}

static void store_row(const float *restrict x, float factor, void *restrict to, nabla_dtype dtype, int32_t n) {
    if (dtype == NABLA_FP32)
        for (int32_t i = 0; i < n; i++)
            ((float *)to)[i] = factor * x[i];
    else
        for (int32_t i = 0; i < n; i++)
            ((uint16_t *)to)[i] = nabla_float_to_bf16(factor * x[i]);
}

/* Rows [first, last) of a head's gradient, factor times x, to the caller's tensor; NULL is left out. x: row `first`. */
static void store_rows(const nabla_plan *plan, const nabla_tensor *t, int64_t head, int32_t first, int32_t last,
                       int32_t head_dim, float factor, const float *x) {
    if (!t) return;
    const nabla_rows rows = nabla_tensor_rows(t, head / plan->heads, head % plan->heads);
    const int64_t bytes = rows.stride * (int64_t)nabla_dtype_size(t->dtype);
    for (int32_t i = first; i < last; i++, x += head_dim)
        store_row(x, factor, (char *)(uintptr_t)rows.data + i * bytes, t->dtype, head_dim);
}

/* The same of dQ, which has all its sums but not their factor. x: row 0. */
static void store_dq(const backward_run *r, int64_t head, int32_t first, int32_t last, const float *x) {
    const nabla_call *call = r->call;
    store_rows(call->plan, call->d_q, head, first, last, call->head_dim, call->scale,
               x + (int64_t)first * call->head_dim);
}

static int64_t *ds_starts(const backward_run *r) {
    return (int64_t *)(r->base + r->at.ds_starts);
}

/* The number of query block q among those that keep column k. */
static int64_t rank_in_column(const nabla_plan *plan, int64_t set, int64_t k, int32_t q) {
    const uint64_t *bits = nabla_plan_column(plan, set, k), before = (UINT64_C(1) << q % 64) - 1;
    return nabla_count_bits(bits, q / 64) + __builtin_popcountll(bits[q / 64] & before);
}

/* Where a task's dS is kept: column after column of those at hand, within them row by row. keys: the task is a column.
   at: [block_count], for the places. */
static void place_ds(const backward_run *r, int64_t set, bool keys, int32_t *at, nabla_backward_task *t) {
    const int64_t *starts = ds_starts(r), base = starts[r->first];
    for (int32_t i = 0; i < t->block_count; i++)
        at[i] =
            (int32_t)(keys ? starts[t->block] - base + i
                           : starts[t->blocks[i]] - base + rank_in_column(r->call->plan, set, t->blocks[i], t->block));
    t->ds = r->base + r->at.ds;
    t->ds_at = at;
}

/* Lists of partners of task i of those that run together. */
static int32_t *list_at(const backward_run *r, const nabla_backward_task *t, size_t lists, int64_t i) {
    const nabla_plan *plan = r->call->plan;
    return (int32_t *)((char *)t->scratch + lists) + i * (plan->nq > plan->nk ? plan->nq : plan->nk);
}

/* Whether kernels write the caller's own rows of dK or dV. */
static bool written_in_place(const nabla_tensor *t) {
    return t && t->dtype == NABLA_FP32;
}

/* Where the gradient of a block of keys goes; own: room for a task's, from block `first` on. */
static float *keys_gradient(const nabla_call *call, const nabla_tensor *t, int64_t head, int32_t first, int32_t block,
                            float *own, int64_t *stride) {
    const nabla_plan *plan = call->plan;
    const int64_t token = plan->k_offsets[block];
    *stride = written_in_place(t) ? t->stride[1] : call->head_dim;
    if (written_in_place(t)) return nabla_tensor_at(t, head / plan->heads, token, head % plan->heads);
    return own + (token - plan->k_offsets[first]) * *stride;
}

/* Blocks [block, end) of keys, at most `together` of them. */
static void run_kv(const backward_run *r, int64_t head, int64_t slot, int32_t block, int32_t end, int32_t thread) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const int64_t set = plan->set_of[head];
    nabla_backward_task tasks[NABLA_MOST_TOGETHER];
    for (int32_t i = 0; i < end - block; i++) {
        nabla_backward_task *t = tasks + i;
        *t = task_of(r, head, slot, thread);
        int32_t *list = list_at(r, t, r->at.lists, i);
        t->block = block + i;
        t->first_k_piece = r->at.scheme == OWNED_HEADS ? plan->k_pieces[block] : 0;
        t->dk = keys_gradient(call, call->d_k, head, block, t->block, t->dk, &t->dk_stride);
        t->dv = keys_gradient(call, call->d_v, head, block, t->block, t->dv, &t->dv_stride);
        t->blocks = list;
        t->block_count = nabla_list_bits(nabla_plan_column(plan, set, t->block), plan->q_words, list);
        if (r->at.scheme == TWO_PASSES || r->at.scheme == KEPT_DS) t->dq = NULL; /* the other pass makes it */
        if (r->at.scheme == KEPT_DS) place_ds(r, set, true, list_at(r, t, r->at.ds_lists, i), t);
        if (i) tasks[i - 1].next = t;
    }
    call->ctx->kernels.of[call->dtype].backward_kv(tasks);
    const int32_t first = plan->k_offsets[block], last = plan->k_offsets[end];
    if (!written_in_place(call->d_k)) store_rows(plan, call->d_k, head, first, last, call->head_dim, 1, tasks->dk);
    if (!written_in_place(call->d_v)) store_rows(plan, call->d_v, head, first, last, call->head_dim, 1, tasks->dv);
}

static void run_q(const backward_run *r, int64_t head, int64_t slot, int32_t block, int32_t thread) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const int32_t first = plan->q_offsets[block], last = plan->q_offsets[block + 1];
    const bool begins = r->first == 0, ends = r->last == plan->nk;
    nabla_backward_task t = task_of(r, head, slot, thread);
    int32_t *list = list_at(r, &t, r->at.lists, 0);
    t.block = block;
    t.blocks = list;
    t.block_count = nabla_list_bits(nabla_plan_row(plan, plan->set_of[head], block), plan->k_words, list);
    while (t.block_count && t.blocks[0] < r->first)
        t.blocks++, t.block_count--;
    while (t.block_count && t.blocks[t.block_count - 1] >= r->last)
        t.block_count--;
    if (r->at.scheme == KEPT_DS) place_ds(r, plan->set_of[head], false, list_at(r, &t, r->at.ds_lists, 0), &t);
    float *dq = t.dq + (int64_t)first * call->head_dim;
    if (begins) memset(dq, 0, (size_t)(last - first) * (size_t)call->head_dim * sizeof *dq);
    call->ctx->kernels.of[call->dtype].backward_q(&t);
    if (ends) store_dq(r, head, first, last, t.dq);
}

/* A whole head on one thread. */
static void run_head(const backward_run *r, int64_t head, int32_t thread) {
    const nabla_plan *plan = r->call->plan;
    const int32_t dim = r->call->head_dim;
    float *dq = gradient(r, thread, r->at.dq);
    memset(dq, 0, (size_t)plan->q_tokens * (size_t)dim * sizeof *dq);
    for (int64_t i = 0; i < plan->nq; i++)
        prepare_queries(r, head, thread, i, thread);
    for (int64_t block = 0, end; block < plan->nk; block = end) {
        end = block + r->at.together < plan->nk ? block + r->at.together : plan->nk;
        for (int64_t i = block; i < end; i++) /* now, so that they are read from a cache near by */
            prepare_keys(r, head, thread, block, i, thread);
        run_kv(r, head, thread, (int32_t)block, (int32_t)end, thread);
    }
    store_dq(r, head, 0, (int32_t)plan->q_tokens, dq);
}

/* As many as the level likes, but enough tasks that no thread waits long for the last of another. */
static int32_t blocks_a_task(const backward_run *r, int64_t blocks) {
    enum { TASKS = 4 /* a thread */ };
    const int64_t most = blocks / ((int64_t)TASKS * r->call->ctx->threads);
    return most < 1 ? 1 : most < r->at.together ? (int32_t)most : r->at.together;
}

/* A task a block of queries, or a few blocks of keys (of the columns at hand). */
static int64_t make_tasks(const backward_run *r, int64_t first, int64_t count, bool keys, nabla_task *tasks) {
    const nabla_plan *plan = r->call->plan;
    const int32_t from = keys ? r->first : 0, blocks = keys ? r->last : (int32_t)plan->nq;
    const int32_t *offsets = keys ? plan->k_offsets : plan->q_offsets;
    const int32_t together = keys ? blocks_a_task(r, count * (blocks - from)) : 1;
    int64_t n = 0;
    for (int64_t head = first; head < first + count; head++)
        for (int32_t block = from; block < blocks; block++) {
            const int64_t set = plan->set_of[head];
            const int64_t kept = keys ? nabla_count_bits(nabla_plan_column(plan, set, block), plan->q_words)
                                      : nabla_count_bits(nabla_plan_row(plan, set, block), plan->k_words);
            if ((block - from) % together == 0)
                tasks[n++] = (nabla_task){.head = (int32_t)head, .block = block, .first = offsets[block]};
            tasks[n - 1].end = block + 1;
            tasks[n - 1].last = offsets[block + 1];
            tasks[n - 1].cost += (offsets[block + 1] - offsets[block]) * kept;
        }
    nabla_order_tasks(tasks, n, nabla_ceil_div(blocks - from, together), r->call->ctx->threads);
    return n;
}

/* Blocks of a group of heads, in slots from 0 on, spread over threads: a pass over the columns, a pass over the rows.
 */
static void run_passes(const backward_run *r, int64_t first, int64_t count) {
    const int32_t threads = r->call->ctx->threads;
    nabla_task *tasks = (nabla_task *)(r->base + r->at.tasks);
    if (r->call->d_k || r->call->d_v) {
        const int64_t n = make_tasks(r, first, count, true, tasks);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++)
            run_kv(r, tasks[i].head, tasks[i].head - first, tasks[i].block, tasks[i].end, omp_get_thread_num());
    }
    if (r->call->d_q) {
        const int64_t n = make_tasks(r, first, count, false, tasks);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++)
            run_q(r, tasks[i].head, tasks[i].head - first, tasks[i].block, omp_get_thread_num());
    }
}

/* One head in the two passes, as many columns at a time as there is room for their dS. */
static void run_kept(backward_run *r, int64_t head) {
    const nabla_plan *plan = r->call->plan;
    int64_t *starts = ds_starts(r);
    starts[0] = 0;
    for (int64_t k = 0; k < plan->nk; k++)
        starts[k + 1] = starts[k] + nabla_count_bits(nabla_plan_column(plan, plan->set_of[head], k), plan->q_words);
    prepare_heads(r, head, 1);
    const int32_t columns = (int32_t)plan->nk;
    for (r->first = 0; r->first < columns; r->first = r->last) {
        r->last = r->first + 1;
        while (r->last < columns && starts[r->last + 1] - starts[r->first] <= r->at.ds_room)
            r->last++;
        run_passes(r, head, 1);
    }
}

/* Adds the `count` threads' sums of a head's query gradients into the first one's, and stores them. */
static void add_sums(const backward_run *r, int64_t head, int32_t count) {
    const nabla_call *call = r->call;
    const nabla_plan *plan = call->plan;
    const int32_t dim = call->head_dim;
#pragma omp parallel for num_threads(call->ctx->threads) schedule(static)
    for (int64_t block = 0; block < plan->nq; block++) {
        const int32_t first = plan->q_offsets[block], last = plan->q_offsets[block + 1];
        const size_t from = (size_t)first * (size_t)dim, to = (size_t)last * (size_t)dim;
        float *restrict total = private_sum(r, 0);
        for (int32_t t = 1; t < count; t++) {
            const float *restrict part = private_sum(r, t);
            for (size_t i = from; i < to; i++)
                total[i] += part[i];
        }
        store_dq(r, head, first, last, total);
    }
}

/* Blocks of one head spread over threads, in one pass. */
static void run_shared_head(const backward_run *r, int64_t head) {
    const int32_t threads = r->call->ctx->threads;
    nabla_task *tasks = (nabla_task *)(r->base + r->at.tasks);
    const int64_t n = make_tasks(r, head, 1, true, tasks);
    prepare_heads(r, head, 1);
    int32_t team = 1; /* OpenMP may give fewer threads than asked: within a parallel region, or at a limit */
#pragma omp parallel num_threads(threads)
    {
        const int32_t thread = omp_get_thread_num();
#pragma omp master
        team = omp_get_num_threads();
        memset(private_sum(r, thread), 0, r->at.sum_bytes);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++)
            run_kv(r, head, 0, tasks[i].block, tasks[i].end, thread);
    }
    add_sums(r, head, team);
}

nabla_status nabla_cpu_backward(const nabla_call *call) {
    nabla_context *ctx = call->ctx;
    const nabla_plan *plan = call->plan;
    backward_run r = {.call = call, .last = (int32_t)plan->nk};
    void *base;
    nabla_status status =
        nabla_lay_out_backward(call, (wanted){.queries = call->d_q, .keys = call->d_k || call->d_v}, &r.at);
    if (!status) status = nabla_context_scratch(ctx, r.at.bytes, &base);
    if (status) return status;
    r.base = base;
    const int64_t heads = plan->batch * plan->heads;
    if (r.at.scheme == OWNED_HEADS) {
#pragma omp parallel for num_threads(ctx->threads) schedule(dynamic, 1)
        for (int64_t head = 0; head < heads; head++)
            run_head(&r, head, omp_get_thread_num());
        return NABLA_OK;
    }
    if (r.at.scheme == PRIVATE_SUMS) {
        for (int64_t head = 0; head < heads; head++)
            run_shared_head(&r, head);
        return NABLA_OK;
    }
    if (r.at.scheme == KEPT_DS) {
        for (int64_t head = 0; head < heads; head++)
            run_kept(&r, head);
        return NABLA_OK;
    }
    for (int64_t first = 0; first < heads; first += r.at.slots) {
        const int64_t count = heads - first < r.at.slots ? heads - first : r.at.slots;
        prepare_heads(&r, first, count);
        run_passes(&r, first, count);
    }
    return NABLA_OK;
}

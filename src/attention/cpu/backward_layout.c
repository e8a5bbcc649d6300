/* SPDX-License-Identifier: Apache-2.0 */
#include "backward_layout.h"
#include "layout.h"
#include "tasks.h"

/* What slots hold, of as many heads at a time as fit in this, and of at least one. */
static const size_t gradient_limit = (size_t)1 << 30;

/* dS of as many columns of a head at a time as fit in this for each thread, and of at least one: what the first pass
   writes is then still in the last-level cache when the second one reads it. */
static const size_t ds_limit = (size_t)8 << 20;

/* Five products on as many threads as `pieces` of equal work fill beat seven on all of them. */
static bool one_pass_pays(int64_t pieces, int32_t threads) {
    return 7 * pieces >= 5 * threads * nabla_ceil_div(pieces, threads);
}

/* fit: heads whose gradients fit in gradient_limit. */
static backward_scheme choose_scheme(const nabla_context *ctx, const nabla_plan *plan, nabla_dtype dtype, wanted w,
                                     bool deterministic, int64_t fit, size_t sum_bytes) {
    if (!w.keys || !w.queries) return TWO_PASSES; /* one of them does nothing */
    const int64_t heads = plan->batch * plan->heads;
    if (one_pass_pays(heads, ctx->threads) && (ctx->threads == 1 || fit >= ctx->threads)) return OWNED_HEADS;
    const bool sums_fit = sum_bytes <= gradient_limit / (size_t)ctx->threads;
    if (!deterministic && sums_fit && one_pass_pays(plan->nk, ctx->threads)) return PRIVATE_SUMS;
    const bool short_blocks = plan->q_piece_count == plan->nq && plan->k_piece_count == plan->nk;
    return ctx->kernels.of[dtype].ds_size && short_blocks ? KEPT_DS : TWO_PASSES;
}

/* key_pieces: how many are packed at a time. dq: the slot holds it. */
static nabla_layout lay_out_slot(const nabla_context *ctx, const nabla_plan *plan, nabla_dtype dtype, int32_t head_dim,
                                 int64_t key_pieces, bool dq, backward_layout *at) {
    nabla_layout slot = {0};
    at->delta = nabla_layout_take(&slot, plan->q_tokens, sizeof(float));
    if (ctx->kernels.of[dtype].pack_queries) {
        const size_t queries = ctx->kernels.of[dtype].packed_queries(plan->q_piece_count, head_dim);
        at->packed_q = nabla_layout_take(&slot, 1, queries);
        at->packed_k = nabla_layout_take(&slot, 1, ctx->kernels.of[dtype].packed_keys(key_pieces, head_dim));
    }
    at->dq = nabla_layout_take(&slot, dq ? plan->q_tokens * head_dim : 0, sizeof(float));
    at->slot_bytes = slot.bytes;
    return slot;
}

nabla_status nabla_lay_out_backward(const nabla_call *call, wanted w, backward_layout *at) {
    nabla_context *ctx = call->ctx;
    const nabla_plan *plan = call->plan;
    const nabla_dtype dtype = call->dtype;
    const int32_t head_dim = call->head_dim;
    const int64_t heads = plan->batch * plan->heads, most = plan->nq > plan->nk ? plan->nq : plan->nk;
    nabla_layout all = {0}, one = {0}, sum = {0};
    *at = (backward_layout){0};
    at->together = ctx->kernels.of[dtype].backward_together > 1 ? ctx->kernels.of[dtype].backward_together : 1;
    nabla_layout slot = lay_out_slot(ctx, plan, dtype, head_dim, plan->k_piece_count, w.queries, at);
    const int64_t fit = (int64_t)(gradient_limit / (slot.bytes + 1));
    nabla_layout_take(&sum, plan->q_tokens * head_dim, sizeof(float));
    at->sum_bytes = sum.bytes;
    at->scheme = choose_scheme(ctx, plan, dtype, w, call->deterministic, fit, at->sum_bytes);
    if (at->scheme == OWNED_HEADS || at->scheme == PRIVATE_SUMS) {
        const bool owned = at->scheme == OWNED_HEADS;
        const int64_t pieces = at->together * nabla_ceil_div(plan->most_keys, NABLA_Q_ROWS),
                      most_pieces = plan->k_piece_count;
        slot =
            lay_out_slot(ctx, plan, dtype, head_dim, owned && pieces < most_pieces ? pieces : most_pieces, owned, at);
    }
    at->slots = fit < 1 ? 1 : fit < heads ? fit : heads;
    if (at->scheme == OWNED_HEADS) at->slots = ctx->threads;
    if (at->scheme == PRIVATE_SUMS || at->scheme == KEPT_DS) at->slots = 1;
    const bool keeps = at->scheme == KEPT_DS;
    const size_t ds_size = ctx->kernels.of[dtype].ds_size;
    if (keeps) {
        const int64_t fit_ds = (int64_t)((size_t)ctx->threads * ds_limit / ds_size),
                      all_ds = nabla_count_mul(plan->nq, plan->nk);
        at->ds_room = all_ds < fit_ds ? all_ds : fit_ds > plan->nq ? fit_ds : plan->nq;
    }

    nabla_layout_take(&one, 1, ctx->kernels.of[dtype].backward_scratch(head_dim));
    const int64_t listed = nabla_count_mul(at->together, most), most_keys = (int64_t)at->together * plan->most_keys;
    const int64_t keys = most_keys < plan->k_tokens ? most_keys : plan->k_tokens;
    at->dk = nabla_layout_take(&one, w.keys ? keys * head_dim : 0, sizeof(float));
    at->dv = nabla_layout_take(&one, w.keys ? keys * head_dim : 0, sizeof(float));
    at->lists = nabla_layout_take(&one, listed, sizeof(int32_t));
    at->ds_lists = nabla_layout_take(&one, keeps ? listed : 0, sizeof(int32_t));
    at->thread_bytes = one.bytes;
    at->ds = nabla_layout_take(&all, at->ds_room, ds_size);
    at->ds_starts = nabla_layout_take(&all, keeps ? plan->nk + 1 : 0, sizeof(int64_t));
    at->gradients = nabla_layout_take(&all, at->slots, at->slot_bytes);
    at->sums = nabla_layout_take(&all, at->scheme == PRIVATE_SUMS ? ctx->threads : 0, at->sum_bytes);
    at->tasks =
        nabla_layout_take(&all, at->scheme == OWNED_HEADS ? 0 : nabla_count_mul(at->slots, most), sizeof(nabla_task));
    at->threads = nabla_layout_take(&all, ctx->threads, at->thread_bytes);
    at->bytes = all.bytes;
    if (all.overflow || one.overflow || slot.overflow)
        return nabla_fail(ctx, NABLA_OVERFLOW, "gradients of %lld heads of %lld tokens need more than memory can hold",
                          (long long)heads, (long long)plan->k_tokens);
    return NABLA_OK;
}

nabla_status nabla_cpu_backward_memory(const nabla_call *call, size_t *bytes) {
    static const wanted calls[] = {{.queries = true}, {.keys = true}, {.queries = true, .keys = true}};
    const int count = call->plan->backward ? 3 : 1;
    for (int i = 0; i < count; i++) {
        backward_layout at;
        const nabla_status status = nabla_lay_out_backward(call, calls[i], &at);
        if (status) return status;
        if (i == 0 || at.bytes > *bytes) *bytes = at.bytes;
    }
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: how large, made, destroyed. plan_build.c fills them, plan_lists.c moves lists in and out. */
#include "plan.h"
#include "bits.h"
#include "device.h"
#include "documents.h"
#include "layout.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 64 /* tokens a block where there is no order */ };

nabla_plan_desc nabla_plan_desc_default(void) {
    return (nabla_plan_desc){.size = sizeof(nabla_plan_desc), .backward = 1};
}

/* One side's counts; an order rules over the tokens given beside it. */
static nabla_status check_side(nabla_context *ctx, const char *name, const nabla_order *order, int64_t given,
                               int64_t *tokens, int64_t *blocks) {
    if (!order && (given < 1 || given > INT32_MAX))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s_tokens is %lld; without an order it must be 1 to %d", name,
                          (long long)given, INT32_MAX);
    *tokens = order ? order->tokens : given;
    *blocks = order ? order->blocks : nabla_ceil_div(given, BLOCK);
    return NABLA_OK;
}

static int64_t block_pieces(const nabla_order *order, int64_t b) {
    return nabla_ceil_div(order ? order->offsets[b + 1] - order->offsets[b] : BLOCK, NABLA_Q_ROWS);
}

static int64_t count_pieces(const nabla_order *order, int64_t blocks) {
    if (!order) return blocks * block_pieces(NULL, 0);
    int64_t count = 0;
    for (int64_t b = 0; b < blocks; b++)
        count += block_pieces(order, b);
    return count;
}

static int32_t longest_block(const nabla_order *order, int64_t blocks) {
    int32_t most = order ? 0 : BLOCK;
    for (int64_t b = 0; order && b < blocks; b++)
        if (order->offsets[b + 1] - order->offsets[b] > most) most = order->offsets[b + 1] - order->offsets[b];
    return most;
}

nabla_status nabla_plan_measure(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan) {
    *plan = (nabla_plan){0};
    if (!desc) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "desc is NULL");
    nabla_status status = nabla_check_struct(ctx, "nabla_plan_desc", desc->size, sizeof *desc);
    if (status) return status;
    if (desc->batch < 1 || desc->heads < 1)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "a plan of %lld batches and %lld heads; both must be at least 1",
                          (long long)desc->batch, (long long)desc->heads);
    plan->batch = desc->batch;
    plan->heads = desc->heads;
    status = check_side(ctx, "q", desc->q_order, desc->q_tokens, &plan->q_tokens, &plan->nq);
    if (!status) status = check_side(ctx, "k", desc->k_order, desc->k_tokens, &plan->k_tokens, &plan->nk);
    if (!status) status = nabla_check_documents(ctx, desc);
    if (!status && (nabla_count_mul(plan->batch, plan->heads) < 0 || plan->batch * plan->heads > INT32_MAX))
        status = nabla_plan_too_large(ctx, plan);
    plan->q_words = nabla_words(plan->nq);
    plan->k_words = nabla_words(plan->nk);
    plan->documents = desc->documents && desc->document_count > 1 ? desc->document_count : 0;
    plan->backward = desc->backward != 0;
    if (status) return status;
    plan->q_piece_count = count_pieces(desc->q_order, plan->nq);
    plan->k_piece_count = count_pieces(desc->k_order, plan->nk);
    plan->most_keys = longest_block(desc->k_order, plan->nk);
    plan->has_tiles = desc->q_order && desc->k_order;
    if (plan->has_tiles) {
        plan->q_tiles = desc->q_order->tiles;
        plan->k_tiles = desc->k_order->tiles;
    }
    return NABLA_OK;
}

/* Points the plan's arrays into `base`, or only measures where it is NULL. */
static nabla_status lay_out(nabla_context *ctx, nabla_plan *plan, char *base, size_t *bytes) {
    nabla_layout l = {0};
    nabla_layout_take(&l, 1, sizeof *plan);
    const size_t q_offsets = nabla_layout_take(&l, plan->nq + 1, sizeof(int32_t));
    const size_t k_offsets = nabla_layout_take(&l, plan->nk + 1, sizeof(int32_t));
    const size_t q_pieces = nabla_layout_take(&l, plan->nq + 1, sizeof(int32_t));
    const size_t k_pieces = nabla_layout_take(&l, plan->nk + 1, sizeof(int32_t));
    const size_t document_of = nabla_layout_take(&l, plan->documents ? plan->nq : 0, sizeof(int32_t));
    const size_t document_first = nabla_layout_take(&l, plan->documents ? plan->documents + 1 : 0, sizeof(int32_t));
    *bytes = l.bytes;
    if (l.overflow) return nabla_plan_too_large(ctx, plan);
    if (!base) return NABLA_OK;
    plan->q_offsets = (int32_t *)(base + q_offsets);
    plan->k_offsets = (int32_t *)(base + k_offsets);
    plan->q_pieces = (int32_t *)(base + q_pieces);
    plan->k_pieces = (int32_t *)(base + k_pieces);
    plan->document_of = plan->documents ? (int32_t *)(base + document_of) : NULL;
    plan->document_first = plan->documents ? (int32_t *)(base + document_first) : NULL;
    return NABLA_OK;
}

nabla_status nabla_plan_too_large(nabla_context *ctx, const nabla_plan *plan) {
    return nabla_fail(ctx, NABLA_OVERFLOW, "a plan of %lld batches x %lld heads x %lld x %lld blocks is too large",
                      (long long)plan->batch, (long long)plan->heads, (long long)plan->nq, (long long)plan->nk);
}

nabla_status nabla_plan_memory(nabla_context *ctx, const nabla_plan_desc *desc, size_t *bytes) {
    nabla_plan plan;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    *bytes = 0;
    const nabla_device_ops *ops = ctx ? ctx->ops : &nabla_cpu_ops;
    size_t host = 0;
    nabla_status status = nabla_plan_measure(ctx, desc, &plan);
    if (!status) status = lay_out(ctx, &plan, NULL, &host);
    return status ? status : ops->plan_bytes(ctx, &plan, host, bytes);
}

static void fill_side(const nabla_order *order, int64_t tokens, int64_t blocks, int32_t *offsets, int32_t *pieces) {
    int64_t piece = 0;
    for (int64_t b = 0; b <= blocks; b++)
        offsets[b] = order ? order->offsets[b] : (int32_t)(b < blocks ? b * BLOCK : tokens);
    for (int64_t b = 0; b <= blocks; b++) {
        pieces[b] = (int32_t)piece;
        piece += b < blocks ? block_pieces(order, b) : 0;
    }
}

nabla_status nabla_plan_create(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan **out) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (!out) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    nabla_plan measured;
    size_t bytes;
    nabla_status status = nabla_plan_measure(ctx, desc, &measured);
    if (!status) status = lay_out(ctx, &measured, NULL, &bytes);
    if (status) return status;
    nabla_plan *plan = calloc(1, bytes);
    if (!plan) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for a plan of %zu bytes", bytes);
    *plan = measured;
    lay_out(ctx, plan, (char *)plan, &bytes);
    fill_side(desc->q_order, plan->q_tokens, plan->nq, plan->q_offsets, plan->q_pieces);
    fill_side(desc->k_order, plan->k_tokens, plan->nk, plan->k_offsets, plan->k_pieces);
    if (plan->documents) nabla_fill_documents(desc, plan);
    plan->ops = ctx->ops;
    plan->home = ctx;
    plan->place = ctx->place;
    plan->sets = 1;
    plan->kept_mass = NAN;
    status = plan->ops->plan_open(ctx, desc, plan);
    if (status)
        nabla_plan_destroy(plan);
    else
        *out = plan;
    return status;
}

void nabla_plan_destroy(nabla_plan *plan) {
    if (!plan) return;
    plan->ops->plan_close(plan);
    free(plan);
}

nabla_status nabla_check_plan(nabla_context *ctx, const nabla_plan *plan) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    if (!plan) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "plan is NULL");
    return nabla_check_place(ctx, "the plan", plan->place);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: how large, made, destroyed, transposed. plan_build.c fills them, plan_lists.c moves lists in and out. */
#include "plan.h"
#include "bits.h"
#include "context.h"
#include "documents.h"
#include "layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    plan->q_words = nabla_words(plan->nq);
    plan->k_words = nabla_words(plan->nk);
    plan->documents = desc->documents && desc->document_count > 1 ? desc->document_count : 0;
    plan->backward = desc->backward != 0;
    if (status) return status;
    plan->q_piece_count = count_pieces(desc->q_order, plan->nq);
    plan->k_piece_count = count_pieces(desc->k_order, plan->nk);
    return NABLA_OK;
}

/* Points the plan's arrays into `base`, or only measures where it is NULL. */
static nabla_status lay_out(nabla_context *ctx, nabla_plan *plan, char *base, size_t *bytes) {
    nabla_layout l = {0};
    const int64_t heads = nabla_count_mul(plan->batch, plan->heads);
    const int64_t rows = nabla_count_mul(heads, nabla_count_mul(plan->nq, plan->k_words));
    const int64_t columns = nabla_count_mul(heads, nabla_count_mul(plan->nk, plan->q_words));
    nabla_layout_take(&l, 1, sizeof *plan);
    const size_t q_offsets = nabla_layout_take(&l, plan->nq + 1, sizeof(int32_t));
    const size_t k_offsets = nabla_layout_take(&l, plan->nk + 1, sizeof(int32_t));
    const size_t q_pieces = nabla_layout_take(&l, plan->nq + 1, sizeof(int32_t));
    const size_t k_pieces = nabla_layout_take(&l, plan->nk + 1, sizeof(int32_t));
    const size_t document_of = nabla_layout_take(&l, plan->documents ? plan->nq : 0, sizeof(int32_t));
    const size_t document_bits = nabla_layout_take(&l, plan->documents * plan->k_words, sizeof(uint64_t));
    const size_t set_of = nabla_layout_take(&l, heads, sizeof(int32_t));
    const size_t row_bits = nabla_layout_take(&l, rows, sizeof(uint64_t));
    const size_t column_bits = nabla_layout_take(&l, plan->backward ? columns : 0, sizeof(uint64_t));
    *bytes = l.bytes;
    if (l.overflow || heads > INT32_MAX)
        return nabla_fail(ctx, NABLA_OVERFLOW, "a plan of %lld batches x %lld heads x %lld x %lld blocks is too large",
                          (long long)plan->batch, (long long)plan->heads, (long long)plan->nq, (long long)plan->nk);
    if (!base) return NABLA_OK;
    plan->q_offsets = (int32_t *)(base + q_offsets);
    plan->k_offsets = (int32_t *)(base + k_offsets);
    plan->q_pieces = (int32_t *)(base + q_pieces);
    plan->k_pieces = (int32_t *)(base + k_pieces);
    plan->document_of = plan->documents ? (int32_t *)(base + document_of) : NULL;
    plan->document_bits = plan->documents ? (uint64_t *)(base + document_bits) : NULL;
    plan->set_of = (int32_t *)(base + set_of);
    plan->rows = (uint64_t *)(base + row_bits);
    plan->columns = plan->backward ? (uint64_t *)(base + column_bits) : NULL;
    return NABLA_OK;
}

nabla_status nabla_plan_memory(nabla_context *ctx, const nabla_plan_desc *desc, size_t *bytes) {
    nabla_plan plan;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    *bytes = 0;
    nabla_status status = nabla_plan_measure(ctx, desc, &plan);
    return status ? status : lay_out(ctx, &plan, NULL, bytes);
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
    /* calloc, so that pages of sets that a shared mask never uses are never touched. */
    nabla_plan *plan = calloc(1, bytes);
    if (!plan) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for a plan of %zu bytes", bytes);
    *plan = measured;
    lay_out(ctx, plan, (char *)plan, &bytes);
    fill_side(desc->q_order, plan->q_tokens, plan->nq, plan->q_offsets, plan->q_pieces);
    fill_side(desc->k_order, plan->k_tokens, plan->nk, plan->k_offsets, plan->k_pieces);
    plan->has_tiles = desc->q_order && desc->k_order;
    if (plan->has_tiles) {
        plan->q_tiles = desc->q_order->tiles;
        plan->k_tiles = desc->k_order->tiles;
    }
    if (plan->documents) nabla_fill_documents(desc, plan);
    nabla_plan_use_sets(plan, true);
    plan->kept_mass = NAN;
    *out = plan;
    return NABLA_OK;
}

void nabla_plan_destroy(nabla_plan *plan) {
    free(plan);
}

nabla_status nabla_check_plan(nabla_context *ctx, const nabla_plan *plan) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    return plan ? NABLA_OK : nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "plan is NULL");
}

void nabla_plan_use_sets(nabla_plan *plan, bool shared) {
    const int64_t heads = plan->batch * plan->heads;
    plan->sets = shared ? 1 : heads;
    for (int64_t i = 0; i < heads; i++)
        plan->set_of[i] = shared ? 0 : (int32_t)i;
}

/* Bit j of word i <-> bit i of word j, by swapping ever smaller quarters (Hacker's Delight, section 7-3). */
static void transpose64(uint64_t m[64]) {
    uint64_t mask = UINT64_C(0x00000000ffffffff);
    for (int width = 32; width; width >>= 1, mask ^= mask << width)
        for (int i = 0; i < 64; i = ((i | width) + 1) & ~width) {
            const uint64_t swap = (m[i] >> width ^ m[i | width]) & mask;
            m[i] ^= swap << width;
            m[i | width] ^= swap;
        }
}

/* The 64 rows from q = 64 * q_word on become word q_word of every column. */
static void transpose_strip(nabla_plan *plan, int64_t set, int64_t q_word) {
    const int64_t q0 = q_word * 64, count = plan->nq - q0 < 64 ? plan->nq - q0 : 64;
    for (int64_t w = 0; w < plan->k_words; w++) {
        uint64_t m[64] = {0};
        const int64_t k0 = w * 64, width = plan->nk - k0 < 64 ? plan->nk - k0 : 64;
        for (int64_t i = 0; i < count; i++)
            m[i] = nabla_plan_row(plan, set, q0 + i)[w];
        transpose64(m);
        for (int64_t j = 0; j < width; j++)
            nabla_plan_column(plan, set, k0 + j)[q_word] = m[j];
    }
}

void nabla_plan_finish(nabla_context *ctx, nabla_plan *plan) {
    if (!plan->backward) return;
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < plan->sets * plan->q_words; i++)
        transpose_strip(plan, i / plan->q_words, i % plan->q_words);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A plan's memory on the GPU: offsets, units and pairs are uploaded when it is made; the bits never leave it. */
#include "layout.h"
#include "state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Places in a plan's memory, in bytes from its base; the first `geometry` bytes are made on the host. */
typedef struct side_layout {
    size_t offsets, units, pairs, pairing;
} side_layout;

typedef struct plan_layout {
    side_layout q, k;
    size_t document_of, document_first, geometry;
    size_t rows, columns, row_mass, bytes;
} plan_layout;

static int64_t pair_count(int64_t units) {
    return nabla_ceil_div(units, 2);
}

static side_layout lay_out_side(nabla_layout *l, int64_t blocks, int64_t units) {
    side_layout at = {0};
    at.offsets = nabla_layout_take(l, blocks + 1, sizeof(int32_t));
    at.units = nabla_layout_take(l, units, sizeof(nabla_cuda_unit));
    at.pairs = nabla_layout_take(l, NABLA_CUDA_PAIRINGS * pair_count(units) * 2, sizeof(nabla_cuda_unit));
    return at;
}

static nabla_status lay_out(nabla_context *ctx, const nabla_plan *plan, plan_layout *at) {
    nabla_layout l = {0};
    const int64_t heads = nabla_count_mul(plan->batch, plan->heads);
    const int64_t rows = nabla_count_mul(heads, nabla_count_mul(plan->nq, plan->k_words));
    const int64_t columns = nabla_count_mul(heads, nabla_count_mul(plan->nk, plan->q_words));
    at->q = lay_out_side(&l, plan->nq, plan->q_piece_count);
    at->k = lay_out_side(&l, plan->nk, plan->k_piece_count);
    at->document_of = nabla_layout_take(&l, plan->documents ? plan->nq : 0, sizeof(int32_t));
    at->document_first = nabla_layout_take(&l, plan->documents ? plan->documents + 1 : 0, sizeof(int32_t));
    at->geometry = l.bytes;
    at->q.pairing = nabla_layout_take(&l, heads, sizeof(int32_t));
    at->k.pairing = nabla_layout_take(&l, heads, sizeof(int32_t));
    at->rows = nabla_layout_take(&l, rows, sizeof(uint64_t));
    at->columns = nabla_layout_take(&l, plan->backward ? columns : 0, sizeof(uint64_t));
    at->row_mass = nabla_layout_take(&l, nabla_count_mul(heads, plan->nq), sizeof(float));
    at->bytes = l.bytes;
    return l.overflow ? nabla_plan_too_large(ctx, plan) : NABLA_OK;
}

nabla_status nabla_cuda_plan_bytes(nabla_context *ctx, const nabla_plan *plan, size_t host, size_t *bytes) {
    plan_layout at;
    (void)host; /* a few KB of the processor's memory */
    const nabla_status status = lay_out(ctx, plan, &at);
    *bytes = status ? 0 : at.bytes;
    return status;
}

/* ---- units and pairs */

static void fill_units(int64_t blocks, const int32_t *offsets, nabla_cuda_unit *units) {
    for (int32_t b = 0; b < blocks; b++)
        for (int32_t first = offsets[b]; first < offsets[b + 1]; first += NABLA_CUDA_ROWS) {
            const int32_t left = offsets[b + 1] - first;
            *units++ =
                (nabla_cuda_unit){.block = b, .first = first, .count = left < NABLA_CUDA_ROWS ? left : NABLA_CUDA_ROWS};
        }
}

/* Pairs under way: single units wait for the next one. */
typedef struct pairing {
    nabla_cuda_unit (*pairs)[2];
    int64_t count;
    nabla_cuda_unit waiting;
    bool waits;
} pairing;

static void add_pair(pairing *p, nabla_cuda_unit a, nabla_cuda_unit b) {
    p->pairs[p->count][0] = a;
    p->pairs[p->count++][1] = b;
}

static void add_single(pairing *p, nabla_cuda_unit unit) {
    if (p->waits)
        add_pair(p, p->waiting, unit);
    else
        p->waiting = unit;
    p->waits = !p->waits;
}

static void end_pairs(pairing *p, int64_t expected) {
    if (p->waits) add_pair(p, p->waiting, (nabla_cuda_unit){.block = -1});
    assert(p->count == expected);
    (void)expected;
}

/* The same place in frames of tiles 2i and 2i + 1. Frames whose units do not match (the last may be thinner), and one
   that is left over, pair neighbours in order. */
static void pair_frames(const nabla_order *order, const int32_t *pieces, const nabla_cuda_unit *units, pairing *p) {
    const int64_t frames = order->tiles.frames, blocks = (int64_t)order->tiles.height * order->tiles.width;
    for (int64_t f = 0; f < frames; f += 2) {
        const int32_t first = pieces[f * blocks], next = pieces[(f + 1) * blocks];
        const int32_t last = f + 1 < frames ? pieces[(f + 2) * blocks] : next;
        if (last - next == next - first)
            for (int32_t i = 0; i < next - first; i++)
                add_pair(p, units[first + i], units[next + i]);
        else
            for (int32_t i = first; i < last; i++)
                add_single(p, units[i]);
    }
}

static void fill_pairs(const nabla_order *order, const int32_t *pieces, int64_t unit_count,
                       const nabla_cuda_unit *units, nabla_cuda_unit *pairs) {
    const int64_t count = pair_count(unit_count);
    pairing in_order = {.pairs = (nabla_cuda_unit(*)[2])pairs};
    pairing in_frames = {.pairs = in_order.pairs + count};
    for (int64_t i = 0; i < unit_count; i++)
        add_single(&in_order, units[i]);
    end_pairs(&in_order, count);
    if (order && order->tiles.frames > 1) {
        pair_frames(order, pieces, units, &in_frames);
        end_pairs(&in_frames, count);
    } else
        memcpy(in_frames.pairs, in_order.pairs, (size_t)count * sizeof *in_order.pairs);
}

static void fill_side(char *base, side_layout at, const nabla_order *order, int64_t blocks, const int32_t *offsets,
                      const int32_t *pieces) {
    nabla_cuda_unit *units = (nabla_cuda_unit *)(base + at.units);
    memcpy(base + at.offsets, offsets, (size_t)(blocks + 1) * sizeof *offsets);
    fill_units(blocks, offsets, units);
    fill_pairs(order, pieces, pieces[blocks], units, (nabla_cuda_unit *)(base + at.pairs));
}

/* ---- making and destroying */

static nabla_cuda_side point_side(char *base, side_layout at, nabla_cuda_side counts) {
    counts.offsets = (const int32_t *)(base + at.offsets);
    counts.units = (const nabla_cuda_unit *)(base + at.units);
    counts.pairs = (const nabla_cuda_unit *)(base + at.pairs);
    counts.pairing = (int32_t *)(base + at.pairing);
    return counts;
}

static void point_into(const nabla_plan *plan, const plan_layout *at, nabla_cuda_bits *bits) {
    char *base = bits->memory;
    bits->view.q = point_side(base, at->q, bits->view.q);
    bits->view.k = point_side(base, at->k, bits->view.k);
    bits->view.rows = (uint64_t *)(base + at->rows);
    bits->view.columns = plan->backward ? (uint64_t *)(base + at->columns) : NULL;
    bits->row_mass = (float *)(base + at->row_mass);
    bits->document_of = plan->documents ? (int32_t *)(base + at->document_of) : NULL;
    bits->document_first = plan->documents ? (int32_t *)(base + at->document_first) : NULL;
}

/* Uploads what the host knows and clears the rest. */
static nabla_status upload(nabla_context *ctx, const nabla_plan_desc *desc, const nabla_plan *plan,
                           const plan_layout *at) {
    char *memory = plan->cuda->memory, *host = calloc(1, at->geometry);
    if (!host) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for the units of a plan");
    fill_side(host, at->q, desc->q_order, plan->nq, plan->q_offsets, plan->q_pieces);
    fill_side(host, at->k, desc->k_order, plan->nk, plan->k_offsets, plan->k_pieces);
    if (plan->documents) {
        memcpy(host + at->document_of, plan->document_of, (size_t)plan->nq * sizeof(int32_t));
        memcpy(host + at->document_first, plan->document_first, (size_t)(plan->documents + 1) * sizeof(int32_t));
    }
    nabla_status status = nabla_cuda_copy(ctx, memory, host, at->geometry);
    free(host);
    if (status) return status;
    return nabla_cuda_check(ctx, cudaMemsetAsync(memory + at->geometry, 0, at->bytes - at->geometry, ctx->cuda->stream),
                            "making a plan");
}

nabla_status nabla_cuda_plan_open(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan) {
    plan_layout at;
    void *memory;
    nabla_status status = lay_out(ctx, plan, &at);
    if (status) return status;
    nabla_cuda_bits *bits = calloc(1, sizeof *bits);
    if (!bits) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for a plan");
    bits->view = nabla_cuda_view(plan);
    plan->cuda = bits;
    status = nabla_cuda_take(ctx, at.bytes, &memory);
    if (status) return status;
    bits->memory = memory;
    bits->bytes = at.bytes;
    point_into(plan, &at, bits);
    return upload(ctx, desc, plan, &at);
}

void nabla_cuda_plan_close(nabla_plan *plan) {
    if (!plan->cuda) return;
    nabla_cuda_give(plan->home, plan->cuda->memory, plan->cuda->bytes);
    free(plan->cuda);
}

nabla_cuda_plan nabla_cuda_view(const nabla_plan *plan) {
    nabla_cuda_plan view = {
        .batch = (int32_t)plan->batch,
        .heads = (int32_t)plan->heads,
        .q = {.tokens = (int32_t)plan->q_tokens,
              .blocks = (int32_t)plan->nq,
              .words = (int32_t)plan->q_words,
              .unit_count = (int32_t)plan->q_piece_count,
              .pair_count = (int32_t)pair_count(plan->q_piece_count)},
        .k = {.tokens = (int32_t)plan->k_tokens,
              .blocks = (int32_t)plan->nk,
              .words = (int32_t)plan->k_words,
              .unit_count = (int32_t)plan->k_piece_count,
              .pair_count = (int32_t)pair_count(plan->k_piece_count)},
    };
    if (plan->cuda) view = plan->cuda->view;
    view.sets = (int32_t)(plan->sets ? plan->sets : plan->batch * plan->heads);
    return view;
}

nabla_cuda_tensor nabla_cuda_tensor_of(const nabla_tensor *t) {
    if (!t) return (nabla_cuda_tensor){0};
    /* The stride of a dimension of size 1 means nothing: give it the one that kernels like best. */
    const int64_t head = t->shape[2] > 1 ? t->stride[2] : t->shape[3];
    const int64_t row = t->shape[1] > 1 ? t->stride[1] : head * t->shape[2];
    const int64_t batch = t->shape[0] > 1 ? t->stride[0] : row * t->shape[1];
    return (nabla_cuda_tensor){.data = t->data, .dtype = t->dtype, .batch = batch, .row = row, .head = head};
}

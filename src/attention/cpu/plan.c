/* SPDX-License-Identifier: Apache-2.0 */
/* A plan's bits in the processor's memory: how large, made, transposed. */
#include "bits.h"
#include "cpu.h"
#include "layout.h"

#include <stdlib.h>

/* Points the arrays into `base`, or only measures where it is NULL. */
static nabla_status lay_out(nabla_context *ctx, nabla_plan *plan, char *base, size_t *bytes) {
    nabla_layout l = {0};
    const int64_t heads = nabla_count_mul(plan->batch, plan->heads);
    const int64_t rows = nabla_count_mul(heads, nabla_count_mul(plan->nq, plan->k_words));
    const int64_t columns = nabla_count_mul(heads, nabla_count_mul(plan->nk, plan->q_words));
    const size_t document_bits = nabla_layout_take(&l, plan->documents * plan->k_words, sizeof(uint64_t));
    const size_t set_of = nabla_layout_take(&l, heads, sizeof(int32_t));
    const size_t row_bits = nabla_layout_take(&l, rows, sizeof(uint64_t));
    const size_t column_bits = nabla_layout_take(&l, plan->backward ? columns : 0, sizeof(uint64_t));
    *bytes = l.bytes;
    if (l.overflow) return nabla_plan_too_large(ctx, plan);
    if (!base) return NABLA_OK;
    plan->document_bits = plan->documents ? (uint64_t *)(base + document_bits) : NULL;
    plan->set_of = (int32_t *)(base + set_of);
    plan->rows = (uint64_t *)(base + row_bits);
    plan->columns = plan->backward ? (uint64_t *)(base + column_bits) : NULL;
    return NABLA_OK;
}

nabla_status nabla_cpu_plan_bytes(nabla_context *ctx, const nabla_plan *plan, size_t host, size_t *bytes) {
    nabla_plan measured = *plan;
    const nabla_status status = lay_out(ctx, &measured, NULL, bytes);
    if (!status && __builtin_add_overflow(*bytes, host, bytes)) return nabla_plan_too_large(ctx, plan);
    return status;
}

nabla_status nabla_cpu_plan_open(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan) {
    (void)desc;
    size_t bytes;
    const nabla_status status = lay_out(ctx, plan, NULL, &bytes);
    if (status) return status;
    /* calloc, so that pages of sets that a shared mask never uses are never touched. */
    plan->bits = calloc(1, bytes);
    if (!plan->bits) return nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for a plan of %zu bytes", bytes);
    lay_out(ctx, plan, plan->bits, &bytes);
    for (int64_t i = 0; i < plan->documents; i++)
        nabla_set_range(plan->document_bits + i * plan->k_words, plan->document_first[i], plan->document_first[i + 1]);
    nabla_cpu_use_sets(plan, true);
    return NABLA_OK;
}

void nabla_cpu_plan_close(nabla_plan *plan) {
    free(plan->bits);
}

void nabla_cpu_use_sets(nabla_plan *plan, bool shared) {
    const int64_t heads = plan->batch * plan->heads;
    plan->sets = shared ? 1 : heads;
    for (int64_t i = 0; i < heads; i++)
        plan->set_of[i] = shared ? 0 : (int32_t)i;
}

/* Bit j of word i <-> bit i of word j, by swapping ever smaller quarters (Hacker's Delight, section 7-3). */
static void transpose64(uint64_t m[64]) {
    uint64_t mask = UINT64_C(0x00000000ffffffff);
    for (int width = 32; width; width >>= 1, mask ^= mask << width)
        for (int first = 0; first < 64; first += 2 * width)
            for (int i = first; i < first + width; i++) {
                const uint64_t swap = (m[i] >> width ^ m[i + width]) & mask;
                m[i] ^= swap << width;
                m[i + width] ^= swap;
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

void nabla_cpu_finish(nabla_context *ctx, nabla_plan *plan) {
    if (!plan->backward) return;
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < plan->sets * plan->q_words; i++)
        transpose_strip(plan, i / plan->q_words, i % plan->q_words);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Plans in and out: FlexAttention's lists, and one byte a block pair. */
#include "bits.h"
#include "context.h"
#include "plan.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

nabla_status nabla_plan_export_lists(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    const int64_t heads = plan->batch * plan->heads, nk = plan->nk;
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < heads * plan->nq; i++) {
        const uint64_t *row = nabla_plan_row(plan, plan->set_of[i / plan->nq], i % plan->nq);
        if (num) num[i] = (int32_t)nabla_count_bits(row, plan->k_words);
        if (indices)
            for (int64_t j = nabla_list_bits(row, plan->k_words, indices + i * nk); j < nk; j++)
                indices[i * nk + j] = -1;
    }
    return NABLA_OK;
}

/* Where an import went wrong. */
typedef struct list_entry {
    int64_t row, entry; /* row of [B * H * nq], place in it; -1: the count itself */
} list_entry;

/* The first row that cannot be a set of key blocks. */
static bool find_bad_list(const nabla_plan *plan, const int32_t *num, const int32_t *indices, uint64_t *seen,
                          list_entry *bad) {
    const int64_t nk = plan->nk;
    for (int64_t i = 0; i < plan->batch * plan->heads * plan->nq; i++) {
        *bad = (list_entry){.row = i, .entry = -1};
        if (num[i] < 0 || num[i] > nk) return true;
        memset(seen, 0, (size_t)plan->k_words * sizeof *seen);
        for (bad->entry = 0; bad->entry < num[i]; bad->entry++) {
            const int32_t k = indices[i * nk + bad->entry];
            if (k < 0 || k >= nk || nabla_bit(seen, k)) return true;
            nabla_set_bit(seen, k);
        }
    }
    return false;
}

static nabla_status bad_list(nabla_context *ctx, const nabla_plan *plan, const int32_t *num, const int32_t *indices,
                             list_entry bad) {
    const long long q = bad.row % plan->nq, h = bad.row / plan->nq % plan->heads, b = bad.row / plan->nq / plan->heads;
    if (bad.entry < 0)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "num[%lld, %lld, %lld] is %d; a query block keeps 0 to %lld key blocks", b, h, q,
                          (int)num[bad.row], (long long)plan->nk);
    const int32_t k = indices[bad.row * plan->nk + bad.entry];
    if (k < 0 || k >= plan->nk)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "indices[%lld, %lld, %lld, %lld] is %d; key blocks are 0 to %lld", b, h, q,
                          (long long)bad.entry, (int)k, (long long)plan->nk - 1);
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                      "indices[%lld, %lld, %lld, %lld] is %d for the second time; list each key block once", b, h, q,
                      (long long)bad.entry, (int)k);
}

nabla_status nabla_plan_import_lists(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!num || !indices) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is NULL", num ? "indices" : "num");
    void *seen;
    list_entry bad;
    status = nabla_context_scratch(ctx, (size_t)plan->k_words * sizeof(uint64_t), &seen);
    if (status) return status;
    if (find_bad_list(plan, num, indices, seen, &bad)) return bad_list(ctx, plan, num, indices, bad);
    nabla_plan_use_sets(plan, false);
    for (int64_t i = 0; i < plan->sets * plan->nq; i++) {
        uint64_t *row = nabla_plan_row(plan, i / plan->nq, i % plan->nq);
        memset(row, 0, (size_t)plan->k_words * sizeof *row);
        for (int32_t j = 0; j < num[i]; j++)
            nabla_set_bit(row, indices[i * plan->nk + j]);
    }
    plan->kept_mass = NAN;
    nabla_plan_finish(ctx, plan);
    return NABLA_OK;
}

nabla_status nabla_plan_export_bitmap(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < plan->batch * plan->heads * plan->nq; i++) {
        const uint64_t *row = nabla_plan_row(plan, plan->set_of[i / plan->nq], i % plan->nq);
        for (int64_t k = 0; k < plan->nk; k++)
            bytes[i * plan->nk + k] = (uint8_t)nabla_bit(row, k);
    }
    return NABLA_OK;
}

nabla_status nabla_plan_import_bitmap(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    const int64_t rows = plan->batch * plan->heads * plan->nq, nk = plan->nk;
    for (int64_t i = 0; i < rows * nk; i++)
        if (bytes[i] > 1)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "byte %lld of the bitmap is %d; use 0 or 1", (long long)i,
                              (int)bytes[i]);
    nabla_plan_use_sets(plan, false);
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        uint64_t *row = nabla_plan_row(plan, i / plan->nq, i % plan->nq);
        memset(row, 0, (size_t)plan->k_words * sizeof *row);
        for (int64_t k = 0; k < nk; k++)
            if (bytes[i * nk + k]) nabla_set_bit(row, k);
    }
    plan->kept_mass = NAN;
    nabla_plan_finish(ctx, plan);
    return NABLA_OK;
}

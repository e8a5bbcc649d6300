/* SPDX-License-Identifier: Apache-2.0 */
#include "host_lists.h"
#include "bits.h"

#include <string.h>

/* Row i of [B * H * nq], where all heads may share one set. */
static const uint64_t *row_of(const nabla_plan *plan, const uint64_t *rows, int64_t i) {
    return rows + (plan->sets == 1 ? i % plan->nq : i) * plan->k_words;
}

static int64_t row_count(const nabla_plan *plan) {
    return plan->batch * plan->heads * plan->nq;
}

void nabla_rows_to_lists(const nabla_plan *plan, const uint64_t *rows, int32_t threads, int32_t *num,
                         int32_t *indices) {
    const int64_t nk = plan->nk;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < row_count(plan); i++) {
        const uint64_t *row = row_of(plan, rows, i);
        if (num) num[i] = (int32_t)nabla_count_bits(row, plan->k_words);
        if (indices)
            for (int64_t j = nabla_list_bits(row, plan->k_words, indices + i * nk); j < nk; j++)
                indices[i * nk + j] = -1;
    }
}

void nabla_rows_to_bytes(const nabla_plan *plan, const uint64_t *rows, int32_t threads, uint8_t *bytes) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < row_count(plan); i++) {
        const uint64_t *row = row_of(plan, rows, i);
        for (int64_t k = 0; k < plan->nk; k++)
            bytes[i * plan->nk + k] = (uint8_t)nabla_bit(row, k);
    }
}

/* ---- imports */

nabla_status nabla_check_lists(nabla_context *ctx, const nabla_plan *plan, const int32_t *num, const int32_t *indices,
                               uint64_t *seen) {
    const int64_t nk = plan->nk;
    for (int64_t i = 0; i < row_count(plan); i++) {
        if (num[i] < 0 || num[i] > nk) return nabla_fail_list(ctx, plan->heads, plan->nq, nk, i, -1, num[i]);
        memset(seen, 0, (size_t)plan->k_words * sizeof *seen);
        for (int64_t entry = 0; entry < num[i]; entry++) {
            const int32_t k = indices[i * nk + entry];
            if (k < 0 || k >= nk || nabla_bit(seen, k))
                return nabla_fail_list(ctx, plan->heads, plan->nq, nk, i, entry, k);
            nabla_set_bit(seen, k);
        }
    }
    return NABLA_OK;
}

nabla_status nabla_check_bytes(nabla_context *ctx, const nabla_plan *plan, const uint8_t *bytes) {
    for (int64_t i = 0; i < row_count(plan) * plan->nk; i++)
        if (bytes[i] > 1) return nabla_fail_byte(ctx, i, bytes[i]);
    return NABLA_OK;
}

void nabla_lists_to_rows(const nabla_plan *plan, const int32_t *num, const int32_t *indices, uint64_t *rows) {
    for (int64_t i = 0; i < row_count(plan); i++) {
        uint64_t *row = rows + i * plan->k_words;
        memset(row, 0, (size_t)plan->k_words * sizeof *row);
        for (int32_t j = 0; j < num[i]; j++)
            nabla_set_bit(row, indices[i * plan->nk + j]);
    }
}

void nabla_bytes_to_rows(const nabla_plan *plan, const uint8_t *bytes, int32_t threads, uint64_t *rows) {
    const int64_t nk = plan->nk;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < row_count(plan); i++) {
        uint64_t *row = rows + i * plan->k_words;
        memset(row, 0, (size_t)plan->k_words * sizeof *row);
        for (int64_t k = 0; k < nk; k++)
            if (bytes[i * nk + k]) nabla_set_bit(row, k);
    }
}

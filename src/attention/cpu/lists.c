/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"
#include "host_lists.h"

#include <math.h>

nabla_status nabla_cpu_export_lists(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices) {
    nabla_rows_to_lists(plan, plan->rows, ctx->threads, num, indices);
    return NABLA_OK;
}

nabla_status nabla_cpu_export_bitmap(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes) {
    nabla_rows_to_bytes(plan, plan->rows, ctx->threads, bytes);
    return NABLA_OK;
}

nabla_status nabla_cpu_import_lists(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices) {
    void *seen;
    nabla_status status = nabla_context_scratch(ctx, (size_t)plan->k_words * sizeof(uint64_t), &seen);
    if (!status) status = nabla_check_lists(ctx, plan, num, indices, seen);
    if (status) return status;
    nabla_cpu_use_sets(plan, false);
    nabla_lists_to_rows(plan, num, indices, plan->rows);
    plan->kept_mass = NAN;
    nabla_cpu_finish(ctx, plan);
    return NABLA_OK;
}

nabla_status nabla_cpu_import_bitmap(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes) {
    const nabla_status status = nabla_check_bytes(ctx, plan, bytes);
    if (status) return status;
    nabla_cpu_use_sets(plan, false);
    nabla_bytes_to_rows(plan, bytes, ctx->threads, plan->rows);
    plan->kept_mass = NAN;
    nabla_cpu_finish(ctx, plan);
    return NABLA_OK;
}

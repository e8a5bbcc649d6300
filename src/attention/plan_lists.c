/* SPDX-License-Identifier: Apache-2.0 */
/* Plans in and out: FlexAttention's lists, and one byte a block pair. */
#include "device.h"

nabla_status nabla_plan_export_lists(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices) {
    const nabla_status status = nabla_check_plan(ctx, plan);
    return status || (!num && !indices) ? status : ctx->ops->export_lists(ctx, plan, num, indices);
}

nabla_status nabla_plan_import_lists(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!num || !indices) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is NULL", num ? "indices" : "num");
    status = ctx->ops->import_lists(ctx, plan, num, indices);
    if (!status) plan->int8 = false;
    return status;
}

nabla_status nabla_plan_export_bitmap(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes) {
    const nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    return ctx->ops->export_bitmap(ctx, plan, bytes);
}

nabla_status nabla_plan_import_bitmap(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes) {
    nabla_status status = nabla_check_plan(ctx, plan);
    if (status) return status;
    if (!bytes) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "bytes is NULL");
    status = ctx->ops->import_bitmap(ctx, plan, bytes);
    if (!status) plan->int8 = false;
    return status;
}

nabla_status nabla_fail_list(nabla_context *ctx, int64_t heads, int64_t nq, int64_t nk, int64_t row, int64_t entry,
                             int32_t value) {
    const long long q = row % nq, h = row / nq % heads, b = row / nq / heads;
    if (entry < 0)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "num[%lld, %lld, %lld] is %d; a query block keeps 0 to %lld key blocks", b, h, q, (int)value,
                          (long long)nk);
    if (value < 0 || value >= nk)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "indices[%lld, %lld, %lld, %lld] is %d; key blocks are 0 to %lld", b, h, q, (long long)entry,
                          (int)value, (long long)nk - 1);
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                      "indices[%lld, %lld, %lld, %lld] is %d for the second time; list each key block once", b, h, q,
                      (long long)entry, (int)value);
}

nabla_status nabla_fail_byte(nabla_context *ctx, int64_t byte, int32_t value) {
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "byte %lld of the bitmap is %d; use 0 or 1", (long long)byte,
                      (int)value);
}

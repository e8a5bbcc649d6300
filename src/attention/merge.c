/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

static nabla_status check(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                          const nabla_tensor *o_b, const nabla_tensor *lse_b) {
    if (!ctx) return NABLA_INVALID_ARGUMENT;
    const unsigned accept = ctx->ops->accept;
    nabla_status status = nabla_check_view(ctx, "o_a", o_a, NABLA_WRITE);
    if (status) return status;
    status = nabla_check_tensor(ctx, "o_a", o_a, accept, 4, o_a->shape, NABLA_WRITE);
    if (!status) status = nabla_check_head_dim(ctx, o_a->shape[3]);
    if (!status) status = nabla_check_tensor(ctx, "o_b", o_b, accept, 4, o_a->shape, NABLA_READ);
    const int64_t lse_shape[] = {o_a->shape[0], o_a->shape[2], o_a->shape[1]};
    if (!status) status = nabla_check_tensor(ctx, "lse_a", lse_a, NABLA_ACCEPT_FP32, 3, lse_shape, NABLA_WRITE);
    if (!status) status = nabla_check_tensor(ctx, "lse_b", lse_b, NABLA_ACCEPT_FP32, 3, lse_shape, NABLA_READ);
    return status;
}

nabla_status nabla_attention_merge(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                                   const nabla_tensor *o_b, const nabla_tensor *lse_b) {
    const nabla_status status = check(ctx, o_a, lse_a, o_b, lse_b);
    return status ? status : ctx->ops->merge(ctx, o_a, lse_a, o_b, lse_b);
}

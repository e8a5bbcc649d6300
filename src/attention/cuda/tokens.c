/* SPDX-License-Identifier: Apache-2.0 */
/* Orders on the GPU, and the merge of partial results. */
#include "state.h"

static size_t raster_bytes(const nabla_order *order) {
    return (size_t)order->tokens * sizeof *order->raster;
}

nabla_status nabla_cuda_order_open(nabla_context *ctx, nabla_order *order) {
    void *memory;
    const nabla_status status = nabla_cuda_take(ctx, raster_bytes(order), &memory);
    order->gpu_raster = memory;
    return status ? status : nabla_cuda_copy(ctx, memory, order->raster, raster_bytes(order));
}

void nabla_cuda_order_close(nabla_order *order) {
    nabla_cuda_give(order->home, order->gpu_raster, raster_bytes(order));
}

nabla_status nabla_cuda_run_permute(nabla_context *ctx, const nabla_permutation *p) {
    const int64_t size = (int64_t)nabla_dtype_size(p->src->dtype);
    return nabla_cuda_check(ctx,
                            nabla_cuda_permute(p->src->data, p->src->stride[0] * size, p->src->stride[1] * size,
                                               p->dst->data, p->dst->stride[0] * size, p->dst->stride[1] * size,
                                               p->src->shape[0], p->order->tokens, p->elements * size,
                                               p->order->gpu_raster, p->gather, ctx->cuda->stream),
                            "reordering tokens");
}

nabla_status nabla_cuda_run_merge(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                                  const nabla_tensor *o_b, const nabla_tensor *lse_b) {
    nabla_cuda_merge_args m = {.batch = o_a->shape[0],
                               .tokens = o_a->shape[1],
                               .heads = o_a->shape[2],
                               .head_dim = (int32_t)o_a->shape[3],
                               .o_a = nabla_cuda_tensor_of(o_a),
                               .o_b = nabla_cuda_tensor_of(o_b),
                               .lse_a = lse_a->data,
                               .lse_b = lse_b->data};
    for (int32_t i = 0; i < 3; i++) {
        m.lse_a_stride[i] = lse_a->stride[i];
        m.lse_b_stride[i] = lse_b->stride[i];
    }
    return nabla_cuda_check(ctx, nabla_cuda_merge(&m, ctx->cuda->stream), "merging partial results");
}

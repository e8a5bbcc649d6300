/* SPDX-License-Identifier: Apache-2.0 */
/* Both passes: scratch, and the launcher of the level that takes the call. */
#include "layout.h"
#include "state.h"

/* The scratch of one pass, in bytes from its base. */
typedef struct pass_layout {
    size_t workspace, row_stats, bytes;
} pass_layout;

/* Floats from one head's statistics to the next; see nabla_cuda_attention. */
static int64_t stats_stride(const nabla_plan *plan) {
    return nabla_ceil_div(plan->q_tokens, NABLA_CUDA_ROWS) * NABLA_CUDA_ROWS + NABLA_CUDA_ROWS;
}

static nabla_cuda_attention describe(const nabla_call *call) {
    const nabla_context *ctx = call->ctx;
    const nabla_plan *plan = call->plan;
    return (nabla_cuda_attention){
        .plan = nabla_cuda_view(plan),
        .dtype = call->dtype,
        .head_dim = call->head_dim,
        .scale = call->scale,
        .alpha = call->alpha,
        .beta = call->beta,
        .q = nabla_cuda_tensor_of(call->q),
        .k = nabla_cuda_tensor_of(call->k),
        .v = nabla_cuda_tensor_of(call->v),
        .o = nabla_cuda_tensor_of(call->o),
        .lse = call->lse ? call->lse->data : NULL,
        .d_o = nabla_cuda_tensor_of(call->d_o),
        .d_q = nabla_cuda_tensor_of(call->d_q),
        .d_k = nabla_cuda_tensor_of(call->d_k),
        .d_v = nabla_cuda_tensor_of(call->d_v),
        .row_stats_stride = stats_stride(plan),
        .processors = ctx->cuda->processors,
        .stream = ctx->cuda->stream,
    };
}

static nabla_status lay_out(const nabla_call *call, bool backward, pass_layout *at) {
    const nabla_plan *plan = call->plan;
    nabla_layout l = {0};
    const int64_t heads = nabla_count_mul(plan->batch, plan->heads);
    at->workspace = nabla_layout_take(&l, 1, NABLA_CUDA_WORKSPACE); /* first: aligned as base */
    at->row_stats = nabla_layout_take(&l, backward ? nabla_count_mul(2 * heads, stats_stride(plan)) : 0, sizeof(float));
    at->bytes = l.bytes;
    if (heads > NABLA_CUDA_MOST_HEADS)
        return nabla_fail(call->ctx, NABLA_UNSUPPORTED,
                          "%lld batches x %lld heads are %lld; attention on a GPU takes at most %d, so make plans of "
                          "fewer batches",
                          (long long)plan->batch, (long long)plan->heads, (long long)heads, NABLA_CUDA_MOST_HEADS);
    if (l.overflow)
        return nabla_fail(call->ctx, NABLA_OVERFLOW,
                          "attention over %lld heads of %lld tokens needs more than memory can hold", (long long)heads,
                          (long long)plan->q_tokens);
    return NABLA_OK;
}

/* Takes the scratch and points `a` into it. */
static nabla_status take_scratch(const nabla_call *call, bool backward, nabla_cuda_attention *a) {
    pass_layout at;
    void *scratch = NULL;
    nabla_status status = lay_out(call, backward, &at);
    if (!status && at.bytes) status = nabla_cuda_scratch(call->ctx, at.bytes, &scratch);
    if (status) return status;
    a->workspace = (char *)scratch + at.workspace;
    a->row_stats = backward ? (float *)((char *)scratch + at.row_stats) : NULL;
    return NABLA_OK;
}

nabla_status nabla_cuda_forward(const nabla_call *call) {
    nabla_cuda_attention a = describe(call);
    const nabla_status status = take_scratch(call, false, &a);
    if (status) return status;
    const bool sm90 = call->ctx->cuda->capability >= 90 && nabla_cuda_forward_sm90_takes(&a);
    return nabla_cuda_check(call->ctx, sm90 ? nabla_cuda_forward_sm90(&a) : nabla_cuda_forward_sm80(&a),
                            "attention forward");
}

nabla_status nabla_cuda_backward(const nabla_call *call) {
    nabla_cuda_attention a = describe(call);
    nabla_status status = take_scratch(call, true, &a);
    if (!status) status = nabla_cuda_check(call->ctx, nabla_cuda_delta(&a), "attention backward, delta");
    if (status) return status;
    const bool sm90 = call->ctx->cuda->capability >= 90 && nabla_cuda_backward_sm90_takes(&a);
    return nabla_cuda_check(call->ctx, sm90 ? nabla_cuda_backward_sm90(&a) : nabla_cuda_backward_sm80(&a),
                            "attention backward");
}

/* ---- memory before there are tensors */

static nabla_status measure(const nabla_call *call, bool backward, size_t *bytes) {
    pass_layout at;
    const nabla_status status = lay_out(call, backward, &at);
    *bytes = status ? 0 : at.bytes;
    return status;
}

nabla_status nabla_cuda_forward_memory(const nabla_call *call, size_t *bytes) {
    return measure(call, false, bytes);
}

nabla_status nabla_cuda_backward_memory(const nabla_call *call, size_t *bytes) {
    return measure(call, true, bytes);
}

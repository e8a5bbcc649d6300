/* SPDX-License-Identifier: Apache-2.0 */
/* Both passes: scratch, and the launcher of the level that takes the call. */
#include "layout.h"
#include "state.h"

/* The scratch of one pass, in bytes from its base. */
typedef struct pass_layout {
    size_t workspace, row_stats, bytes;
} pass_layout;

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
        .deterministic = call->deterministic,
        .q = nabla_cuda_tensor_of(call->q),
        .k = nabla_cuda_tensor_of(call->k),
        .v = nabla_cuda_tensor_of(call->v),
        .o = nabla_cuda_tensor_of(call->o),
        .lse = call->lse ? call->lse->data : NULL,
        .d_o = nabla_cuda_tensor_of(call->d_o),
        .d_q = nabla_cuda_tensor_of(call->d_q),
        .d_k = nabla_cuda_tensor_of(call->d_k),
        .d_v = nabla_cuda_tensor_of(call->d_v),
        .row_stats_stride = nabla_ceil_div(plan->q_tokens, NABLA_CUDA_ROWS) * NABLA_CUDA_ROWS + NABLA_CUDA_ROWS,
        .processors = ctx->cuda->processors,
        .stream = ctx->cuda->stream,
    };
}

static nabla_status lay_out(const nabla_call *call, const nabla_cuda_attention *a, bool backward, pass_layout *at) {
    nabla_layout l = {0};
    const int64_t heads = nabla_count_mul(call->plan->batch, call->plan->heads);
    at->workspace = nabla_layout_take(&l, 1, nabla_cuda_attention_workspace(a, backward)); /* first: aligned as base */
    at->row_stats =
        nabla_layout_take(&l, backward ? nabla_count_mul(2 * heads, a->row_stats_stride) : 0, sizeof(float));
    at->bytes = l.bytes;
    if (l.overflow)
        return nabla_fail(call->ctx, NABLA_OVERFLOW,
                          "attention over %lld heads of %lld tokens needs more than memory can hold", (long long)heads,
                          (long long)call->plan->k_tokens);
    return NABLA_OK;
}

/* Takes the scratch and points `a` into it. */
static nabla_status take_scratch(const nabla_call *call, bool backward, nabla_cuda_attention *a) {
    pass_layout at;
    void *scratch = NULL;
    nabla_status status = lay_out(call, a, backward, &at);
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

/* A tensor of the call's shape that is not there; workspaces look at which there are and at their dtypes. */
static nabla_cuda_tensor expected(const nabla_call *call, nabla_dtype dtype) {
    static char somewhere;
    const int64_t row = call->plan->heads * call->head_dim;
    return (nabla_cuda_tensor){.data = &somewhere, .dtype = dtype, .row = row, .head = call->head_dim};
}

nabla_status nabla_cuda_forward_memory(const nabla_call *call, size_t *bytes) {
    nabla_cuda_attention a = describe(call);
    pass_layout at;
    a.q = a.k = a.v = a.o = expected(call, call->dtype);
    const nabla_status status = lay_out(call, &a, false, &at);
    *bytes = status ? 0 : at.bytes;
    return status;
}

nabla_status nabla_cuda_backward_memory(const nabla_call *call, size_t *bytes) {
    const nabla_dtype dtypes[] = {NABLA_FP32, call->dtype};
    const nabla_cuda_tensor none = {0};
    *bytes = 0;
    for (int i = 0; i < 6; i++) { /* queries', keys' or all gradients, in either dtype: whatever needs most */
        const nabla_cuda_tensor gradient = expected(call, dtypes[i % 2]);
        nabla_cuda_attention a = describe(call);
        pass_layout at;
        a.q = a.k = a.v = a.o = a.d_o = expected(call, call->dtype);
        a.d_q = i / 2 == 1 ? none : gradient;
        a.d_k = a.d_v = i / 2 == 2 || !call->plan->backward ? none : gradient;
        const nabla_status status = lay_out(call, &a, true, &at);
        if (status) return status;
        if (at.bytes > *bytes) *bytes = at.bytes;
    }
    return NABLA_OK;
}

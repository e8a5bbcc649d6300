/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/self_attention.h"

void nv_self_attention_layout(nv_self_attention_run *r, nv_arena *arena, const nv_self_attention *p, int64_t batch,
                              int64_t tokens, nabla_dtype compute, int train, const nv_shared *shared) {
    const int64_t rows = batch * tokens, dim = p->qkv.w.cols;
    const size_t size = nabla_dtype_size(compute);
    *r = (nv_self_attention_run){.batch = batch, .tokens = tokens, .o = shared->narrow};
    if (!train) {
        r->qkv = nv_shared_wide(shared, 3 * dim);
        r->qk = nv_matrix_cols(r->qkv, 0, 2 * dim); /* in place */
        r->y = nv_shared_wide(shared, dim);
        return;
    }
    r->qkv = nv_matrix_of(nv_arena_take(arena, rows * 3 * dim, size), compute, rows, 3 * dim);
    r->qk = nv_matrix_of(nv_arena_take(arena, rows * 2 * dim, size), compute, rows, 2 * dim);
    if (compute == NABLA_BF16)
        r->exact = nv_matrix_of(nv_arena_take(arena, rows * dim, sizeof(float)), NABLA_FP32, rows, dim);
    else
        r->o = nv_matrix_of(nv_arena_take(arena, rows * dim, size), compute, rows, dim);
    r->y = nv_matrix_of(nv_arena_take(arena, rows * dim, size), compute, rows, dim);
    r->rstd_q = nv_arena_take(arena, rows, sizeof(float));
    r->rstd_k = nv_arena_take(arena, rows, sizeof(float));
    r->lse = nv_arena_take(arena, rows * p->heads, sizeof(float));
}

static nv_qk_norm norm_of(const nv_self_attention *p, const nv_self_attention_run *r, int key) {
    const int64_t dim = r->o.cols;
    return (nv_qk_norm){.x = nv_matrix_cols(r->qkv, key * dim, dim),
                        .y = nv_matrix_cols(r->qk, key * dim, dim),
                        .heads = p->heads,
                        .eps = p->eps,
                        .weight = key ? p->norm_k : p->norm_q,
                        .rope = r->rope,
                        .tokens = r->tokens,
                        .rstd = key ? r->rstd_k : r->rstd_q};
}

static nv_attend attend_of(const nv_self_attention *p, const nv_self_attention_run *r) {
    const int64_t dim = r->o.cols;
    return (nv_attend){.plan = r->plan,
                       .batch = r->batch,
                       .heads = p->heads,
                       .q = nv_matrix_cols(r->qk, 0, dim),
                       .k = nv_matrix_cols(r->qk, dim, dim),
                       .v = nv_matrix_cols(r->qkv, 2 * dim, dim),
                       .o = r->o,
                       .exact = r->exact,
                       .lse = r->lse};
}

nabla_status nv_self_attention_forward(nv_device *dev, const nv_self_attention *p, nv_self_attention_run *r,
                                       nv_matrix x, const nabla_policy *policy, nv_error *err) {
    const nv_qk_norm q = norm_of(p, r, 0), k = norm_of(p, r, 1);
    const nv_attend a = attend_of(p, r);
    NV_TRY(nv_linear_forward(dev, &p->qkv, x, r->qkv, err));
    NV_TRY(dev->ops->qk_norm(dev, &q, err));
    NV_TRY(dev->ops->qk_norm(dev, &k, err));
    if (policy) NV_TRY(nv_attend_plan(dev, &a, policy, err));
    NV_TRY(nv_attend_forward(dev, &a, err));
    return nv_linear_forward(dev, &p->out, r->o, r->y, err);
}

nabla_status nv_self_attention_backward(nv_device *dev, const nv_self_attention *p, nv_self_attention_run *r,
                                        nv_matrix x, nv_matrix d_y, nv_matrix d_qkv, nv_matrix d_x, nv_error *err) {
    const int64_t dim = r->o.cols;
    const nv_qk_norm q = norm_of(p, r, 0), k = norm_of(p, r, 1);
    const nv_attend a = attend_of(p, r);
    const nv_matrix d_q = nv_matrix_cols(d_qkv, 0, dim), d_k = nv_matrix_cols(d_qkv, dim, dim),
                    d_v = nv_matrix_cols(d_qkv, 2 * dim, dim), d_o = d_x; /* d_x is free until the end */
    NV_TRY(nv_attend_output(dev, &a, err));
    NV_TRY(nv_linear_backward(dev, &p->out, r->o, d_y, d_o, NULL, err));
    NV_TRY(nv_attend_backward(dev, &a, d_o, d_q, d_k, d_v, err));
    NV_TRY(dev->ops->qk_norm_backward(dev, &q, d_q, d_q, p->d_norm_q, p->qkv.d_bias, err));
    NV_TRY(dev->ops->qk_norm_backward(dev, &k, d_k, d_k, p->d_norm_k, p->qkv.d_bias + dim, err));
    NV_TRY(dev->ops->column_sums(dev, d_v, p->qkv.d_bias + 2 * dim, err));
    return nv_linear_backward(dev, &p->qkv, x, d_qkv, d_x, NULL, err);
}

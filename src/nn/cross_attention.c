/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/cross_attention.h"

void nv_cross_attention_layout(nv_cross_attention_run *r, nv_arena *arena, const nv_cross_attention *p, int64_t batch,
                               int64_t tokens, int64_t text_length, nabla_dtype compute, int train,
                               const nv_shared *shared) {
    const int64_t rows = batch * tokens, text_rows = batch * text_length, dim = p->q.w.cols;
    const size_t size = nabla_dtype_size(compute);
    *r = (nv_cross_attention_run){.batch = batch, .tokens = tokens, .text_length = text_length, .o = shared->narrow};
    r->kv = nv_matrix_of(nv_arena_take(arena, text_rows * 2 * dim, size), compute, text_rows, 2 * dim);
    r->k_n = nv_matrix_of(nv_arena_take(arena, text_rows * dim, size), compute, text_rows, dim);
    if (!train) {
        r->q = r->q_n = r->y = nv_shared_wide(shared, dim);
        return;
    }
    r->q = nv_matrix_of(nv_arena_take(arena, rows * dim, size), compute, rows, dim);
    r->q_n = nv_matrix_of(nv_arena_take(arena, rows * dim, size), compute, rows, dim);
    if (compute == NABLA_BF16)
        r->exact = nv_matrix_of(nv_arena_take(arena, rows * dim, sizeof(float)), NABLA_FP32, rows, dim);
    else
        r->o = nv_matrix_of(nv_arena_take(arena, rows * dim, size), compute, rows, dim);
    r->y = shared->y;
    r->rstd_q = nv_arena_take(arena, rows, sizeof(float));
    r->rstd_k = nv_arena_take(arena, text_rows, sizeof(float));
    r->lse = nv_arena_take(arena, rows * p->heads, sizeof(float));
}

static nv_qk_norm q_norm_of(const nv_cross_attention *p, const nv_cross_attention_run *r) {
    return (nv_qk_norm){
        .x = r->q, .y = r->q_n, .heads = p->heads, .eps = p->eps, .weight = p->norm_q, .tokens = 1, .rstd = r->rstd_q};
}

static nv_qk_norm k_norm_of(const nv_cross_attention *p, const nv_cross_attention_run *r) {
    return (nv_qk_norm){.x = nv_matrix_cols(r->kv, 0, r->k_n.cols),
                        .y = r->k_n,
                        .heads = p->heads,
                        .eps = p->eps,
                        .weight = p->norm_k,
                        .tokens = 1,
                        .rstd = r->rstd_k};
}

static nv_attend attend_of(const nv_cross_attention *p, const nv_cross_attention_run *r) {
    const int64_t dim = r->o.cols;
    return (nv_attend){.plan = r->plan,
                       .batch = r->batch,
                       .heads = p->heads,
                       .q = r->q_n,
                       .k = r->k_n,
                       .v = nv_matrix_cols(r->kv, dim, dim),
                       .o = r->o,
                       .exact = r->exact,
                       .lse = r->lse};
}

nabla_status nv_cross_attention_forward(nv_device *dev, const nv_cross_attention *p, nv_cross_attention_run *r,
                                        nv_matrix x, nv_matrix text, nv_error *err) {
    const nv_qk_norm q = q_norm_of(p, r), k = k_norm_of(p, r);
    const nv_attend a = attend_of(p, r);
    NV_TRY(nv_linear_forward(dev, &p->q, x, r->q, err));
    NV_TRY(nv_linear_forward(dev, &p->kv, text, r->kv, err));
    NV_TRY(dev->ops->qk_norm(dev, &q, err));
    NV_TRY(dev->ops->qk_norm(dev, &k, err));
    NV_TRY(nv_attend_forward(dev, &a, err));
    return nv_linear_forward(dev, &p->out, r->o, r->y, err);
}

nabla_status nv_cross_attention_backward(nv_device *dev, const nv_cross_attention *p, nv_cross_attention_run *r,
                                         nv_matrix x, nv_matrix text, nv_matrix d_y, nv_matrix d_q, nv_matrix d_kv,
                                         nv_matrix d_x, nv_matrix d_text, nv_error *err) {
    const int64_t dim = r->o.cols;
    const nv_qk_norm q = q_norm_of(p, r), k = k_norm_of(p, r);
    const nv_attend a = attend_of(p, r);
    const nv_matrix d_k = nv_matrix_cols(d_kv, 0, dim), d_v = nv_matrix_cols(d_kv, dim, dim),
                    d_o = d_x; /* d_x is free until the end */
    NV_TRY(nv_attend_output(dev, &a, err));
    NV_TRY(nv_linear_backward(dev, &p->out, r->o, d_y, d_o, NULL, err));
    NV_TRY(nv_attend_backward(dev, &a, d_o, d_q, d_k, d_v, err));
    NV_TRY(dev->ops->qk_norm_backward(dev, &q, d_q, d_q, p->d_norm_q, p->q.d_bias, err));
    NV_TRY(dev->ops->qk_norm_backward(dev, &k, d_k, d_k, p->d_norm_k, p->kv.d_bias, err));
    NV_TRY(dev->ops->column_sums(dev, d_v, p->kv.d_bias + dim, err));
    NV_TRY(nv_linear_backward(dev, &p->kv, text, d_kv, (nv_matrix){0}, NULL, err));
    NV_TRY(dev->ops->linear_backward_input(dev, d_kv, p->kv.w, d_text, 1, err));
    return nv_linear_backward(dev, &p->q, x, d_q, d_x, NULL, err);
}

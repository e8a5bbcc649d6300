/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/time_embedding.h"

void nv_time_embedding_layout(nv_time_embedding_run *r, nv_arena *arena, const nv_time_embedding *p, int64_t batch) {
    const int64_t freq = p->in.w.cols, dim = p->out.w.rows, six = p->project.w.rows;
    nv_matrix *const all[] = {&r->sinusoid, &r->u, &r->h, &r->t, &r->t_act, &r->e, &r->d_t, &r->d_hidden};
    const int64_t cols[] = {freq, dim, dim, dim, dim, six, dim, dim};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] = nv_matrix_of(nv_arena_take(arena, batch * cols[i], sizeof(float)), NABLA_FP32, batch, cols[i]);
}

nabla_status nv_time_embedding_forward(nv_device *dev, const nv_time_embedding *p, nv_time_embedding_run *r,
                                       const float *time, nv_error *err) {
    NV_TRY(dev->ops->sinusoid(dev, time, r->sinusoid.rows, r->sinusoid.cols, r->sinusoid.data, err));
    NV_TRY(nv_linear_forward(dev, &p->in, r->sinusoid, r->u, err));
    NV_TRY(dev->ops->activate(dev, NV_SILU, r->u, r->h, err));
    NV_TRY(nv_linear_forward(dev, &p->out, r->h, r->t, err));
    NV_TRY(dev->ops->activate(dev, NV_SILU, r->t, r->t_act, err));
    return nv_linear_forward(dev, &p->project, r->t_act, r->e, err);
}

nabla_status nv_time_embedding_backward(nv_device *dev, const nv_time_embedding *p, nv_time_embedding_run *r,
                                        nv_matrix d_e, const float *d_t_head, nv_error *err) {
    const nv_matrix none = {0};
    NV_TRY(nv_linear_backward(dev, &p->project, r->t_act, d_e, r->d_t, p->project.d_bias, err));
    NV_TRY(dev->ops->activate_backward(dev, NV_SILU, r->t, r->d_t, r->d_t, none, NULL, err));
    NV_TRY(dev->ops->add(dev, r->d_t.data, d_t_head, r->d_t.rows * r->d_t.cols, err));
    NV_TRY(nv_linear_backward(dev, &p->out, r->h, r->d_t, r->d_hidden, p->out.d_bias, err));
    NV_TRY(dev->ops->activate_backward(dev, NV_SILU, r->u, r->d_hidden, r->d_hidden, none, NULL, err));
    return nv_linear_backward(dev, &p->in, r->sinusoid, r->d_hidden, none, p->in.d_bias, err);
}

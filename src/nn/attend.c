/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/attend.h"

static nabla_tensor tensor_of(const nv_attend *a, nv_matrix m) {
    const int64_t tokens = m.rows / a->batch, head_dim = m.cols / a->heads;
    nabla_tensor t = {m.data, m.dtype, 4, {a->batch, tokens, a->heads, head_dim}, {0}};
    t.stride[0] = tokens * m.stride;
    t.stride[1] = m.stride;
    t.stride[2] = head_dim;
    t.stride[3] = 1;
    return t;
}

static nabla_tensor lse_of(const nv_attend *a) {
    const int64_t shape[3] = {a->batch, a->heads, a->q.rows / a->batch};
    return nabla_tensor_contiguous(a->lse, NABLA_FP32, 3, shape);
}

/* Hands on what libnabla said. */
static nabla_status passed_on(nv_device *dev, nabla_status status, nv_error *err) {
    return status == NABLA_OK ? status : nv_fail(err, status, "%s", nabla_context_message(dev->context));
}

nabla_status nv_attend_plan(nv_device *dev, const nv_attend *a, const nabla_policy *policy, nv_error *err) {
    const nv_phase before = dev->ops->phase(dev, NV_PLAN);
    const nabla_tensor q = tensor_of(a, a->q), k = tensor_of(a, a->k);
    nabla_plan_inputs inputs = nabla_plan_inputs_default();
    inputs.q = &q;
    inputs.k = &k;
    nabla_status status = nabla_plan_build(dev->context, a->plan, policy, &inputs);
    dev->ops->phase(dev, before);
    return passed_on(dev, status, err);
}

nabla_status nv_attend_forward(nv_device *dev, const nv_attend *a, nv_error *err) {
    const nv_phase before = dev->ops->phase(dev, NV_ATTENTION);
    const nabla_attention_params params = nabla_attention_params_default();
    const nabla_tensor q = tensor_of(a, a->q), k = tensor_of(a, a->k), v = tensor_of(a, a->v),
                       o = tensor_of(a, a->exact.data ? a->exact : a->o), lse = lse_of(a);
    nabla_status status = nabla_attention_forward(dev->context, a->plan, &params, &q, &k, &v, &o, a->lse ? &lse : NULL);
    dev->ops->phase(dev, before);
    NV_TRY(passed_on(dev, status, err));
    return nv_attend_output(dev, a, err);
}

nabla_status nv_attend_output(nv_device *dev, const nv_attend *a, nv_error *err) {
    return a->exact.data ? dev->ops->cast(dev, a->exact, a->o, err) : NABLA_OK;
}

nabla_status nv_attend_backward(nv_device *dev, const nv_attend *a, nv_matrix d_o, nv_matrix d_q, nv_matrix d_k,
                                nv_matrix d_v, nv_error *err) {
    const nv_phase before = dev->ops->phase(dev, NV_ATTENTION);
    const nabla_attention_params params = nabla_attention_params_default();
    const nabla_tensor q = tensor_of(a, a->q), k = tensor_of(a, a->k), v = tensor_of(a, a->v),
                       o = tensor_of(a, a->exact.data ? a->exact : a->o), lse = lse_of(a), dO = tensor_of(a, d_o),
                       dq = tensor_of(a, d_q), dk = tensor_of(a, d_k), dv = tensor_of(a, d_v);
    nabla_status status =
        nabla_attention_backward(dev->context, a->plan, &params, &q, &k, &v, &o, &lse, &dO, &dq, &dk, &dv);
    dev->ops->phase(dev, before);
    return passed_on(dev, status, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/linear.h"

nabla_status nv_linear_forward(nv_device *dev, const nv_linear *l, nv_matrix x, nv_matrix y, nv_error *err) {
    return dev->ops->linear(dev, x, l->w, l->bias, y, err);
}

nabla_status nv_linear_backward(nv_device *dev, const nv_linear *l, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                float *d_bias, nv_error *err) {
    NV_TRY(dev->ops->linear_backward_weight(dev, d_y, x, l->d_w, d_bias, err));
    return d_x.data ? dev->ops->linear_backward_input(dev, d_y, l->w, d_x, 0, err) : NABLA_OK;
}

size_t nv_linear_memory(const nv_device *dev, nabla_dtype dtype, const nv_linear_size *sizes, int count, int backward) {
    size_t most = 0;
    for (int i = 0; dev->ops->linear_memory && i < count; i++) {
        const nv_linear_size *s = sizes + i;
        const size_t bytes = dev->ops->linear_memory(dev, dtype, s->rows, s->in, s->out, backward);
        if (bytes > most) most = bytes;
    }
    return most;
}

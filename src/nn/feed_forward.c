/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/feed_forward.h"

nabla_status nv_feed_forward_forward(nv_device *dev, const nv_feed_forward *p, nv_matrix x, nv_matrix u, nv_matrix wide,
                                     nv_matrix y, nv_error *err) {
    if (wide.data == u.data) {
        NV_TRY(dev->ops->linear_activate(dev, NV_GELU_TANH, x, p->up.w, p->up.bias, u, err));
        return nv_linear_forward(dev, &p->down, u, y, err);
    }
    NV_TRY(nv_linear_forward(dev, &p->up, x, u, err));
    NV_TRY(dev->ops->activate(dev, NV_GELU_TANH, u, wide, err));
    return nv_linear_forward(dev, &p->down, wide, y, err);
}

nabla_status nv_feed_forward_backward(nv_device *dev, const nv_feed_forward *p, nv_matrix x, nv_matrix u, nv_matrix d_y,
                                      nv_matrix wide, nv_matrix d_x, float *down_bias, nv_error *err) {
    NV_TRY(dev->ops->linear_backward_input(dev, d_y, p->down.w, wide, 0, err));
    NV_TRY(dev->ops->activate_backward(dev, NV_GELU_TANH, u, wide, wide, u, p->up.d_bias, err));
    NV_TRY(dev->ops->linear_backward_weight(dev, d_y, u, p->down.d_w, down_bias, err));
    return nv_linear_backward(dev, &p->up, x, wide, d_x, NULL, err);
}

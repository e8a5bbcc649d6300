/* SPDX-License-Identifier: Apache-2.0 */
/* linear, GELU (tanh), linear: a block's feed-forward, and the text embedding. */
#ifndef NV_FEED_FORWARD_H
#define NV_FEED_FORWARD_H

#include "nn/linear.h"

typedef struct nv_feed_forward {
    nv_linear up, down;
} nv_feed_forward;

/* u [M, hidden] is the first product, kept for the backward pass where train; wide [M, hidden] is scratch that may be
   u itself where not. y [M, out]. */
nabla_status nv_feed_forward_forward(nv_device *dev, const nv_feed_forward *p, nv_matrix x, nv_matrix u, nv_matrix wide,
                                     nv_matrix y, nv_error *err);
/* d_y -> d_x (data NULL: left out). u turns into GELU(u): a forward pass serves one backward pass. Scratch: wide.
   down_bias: where the gradient of down's bias goes; NULL: it came out of another pass. */
nabla_status nv_feed_forward_backward(nv_device *dev, const nv_feed_forward *p, nv_matrix x, nv_matrix u, nv_matrix d_y,
                                      nv_matrix wide, nv_matrix d_x, float *down_bias, nv_error *err);

#endif

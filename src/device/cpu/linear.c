/* SPDX-License-Identifier: Apache-2.0 */
/* The products of a linear layer, forward and backward: y = x w^T + bias as three calls of one product. */
#include "device/cpu/cpu.h"

static nabla_status multiply(nv_device *dev, const nv_product *p, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    if (p->m == 0 || p->n == 0) return NABLA_OK;
    const double begin = nv_now();
    nabla_status status =
        cpu->onednn_has[p->in == NABLA_BF16] ? nv_onednn_run(cpu->onednn, p, err) : nv_own_product(cpu, p, err);
    dev->clock.products_s += nv_now() - begin;
    dev->clock.product_flop += 2.0 * (double)p->m * (double)p->n * (double)p->k;
    return status;
}

nabla_status nv_cpu_linear(nv_device *dev, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, nv_error *err) {
    const nv_product p = {.m = x.rows,
                          .n = w.rows,
                          .k = x.cols,
                          .in = x.dtype,
                          .out = y.dtype,
                          .a = x.data,
                          .a_row = x.stride,
                          .a_col = 1,
                          .b = w.data,
                          .b_row = 1,
                          .b_col = w.stride,
                          .bias = bias,
                          .c = y.data,
                          .c_row = y.stride};
    return multiply(dev, &p, err);
}

nabla_status nv_cpu_linear_backward_input(nv_device *dev, nv_matrix d_y, nv_matrix w, nv_matrix d_x, int add_to,
                                          nv_error *err) {
    const nv_product p = {.m = d_y.rows,
                          .n = w.cols,
                          .k = w.rows,
                          .in = d_y.dtype,
                          .out = d_x.dtype,
                          .a = d_y.data,
                          .a_row = d_y.stride,
                          .a_col = 1,
                          .b = w.data,
                          .b_row = w.stride,
                          .b_col = 1,
                          .c = d_x.data,
                          .c_row = d_x.stride,
                          .add = add_to};
    return multiply(dev, &p, err);
}

nabla_status nv_cpu_linear_backward_weight(nv_device *dev, nv_matrix d_y, nv_matrix x, float *d_w, float *d_bias,
                                           nv_error *err) {
    const nv_product p = {.m = d_y.cols,
                          .n = x.cols,
                          .k = x.rows,
                          .in = x.dtype,
                          .out = NABLA_FP32,
                          .a = d_y.data,
                          .a_row = 1,
                          .a_col = d_y.stride,
                          .b = x.data,
                          .b_row = x.stride,
                          .b_col = 1,
                          .c = d_w,
                          .c_row = x.cols,
                          .add = 1};
    NV_TRY(multiply(dev, &p, err));
    return d_bias ? nv_cpu_column_sums(dev, d_y, d_bias, err) : NABLA_OK;
}

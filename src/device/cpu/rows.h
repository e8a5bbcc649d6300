/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The row kernels: what one thread does with rows [first, last) of an operation of device.h. One source (rows_body.h)
 * compiled for each level; the files beside it divide an operation's rows among threads and add up partial sums.
 * `partial` arrays are zeroed by the caller and added to.
 */
#ifndef NV_ROWS_H
#define NV_ROWS_H

#include "device/cpu/panels.h"
#include "device/device.h"

typedef struct nv_row_kernels {
    void (*seam)(const nv_seam *a, int64_t first, int64_t last);
    /* partial: [4, dim] for gain, shift, gate, bias; rows within one group. */
    void (*seam_backward)(const nv_seam *a, const nv_seam_grad *g, int64_t first, int64_t last, float *partial);
    void (*qk_norm)(const nv_qk_norm *a, int64_t first, int64_t last);
    /* partial: [2, dim] for weight, bias. */
    void (*qk_norm_backward)(const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, int64_t first, int64_t last,
                             float *partial);
    void (*activate)(nv_activation act, nv_matrix x, nv_matrix y, int64_t first, int64_t last);
    /* partial: [cols] for bias, or NULL. */
    void (*activate_backward)(nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x, nv_matrix again,
                              int64_t first, int64_t last, float *partial);
    void (*gate)(nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, int64_t first, int64_t last);
    void (*softmax)(nv_matrix s, float scale, const float *bias, nv_matrix p, int64_t first, int64_t last);
    void (*cast)(nv_matrix src, nv_matrix dst, int64_t first, int64_t last);
    void (*column_sums)(nv_matrix x, int64_t first, int64_t last, float *partial);
    void (*channel_norm)(const nv_channel_norm *a, int64_t first, int64_t last);
    void (*add)(float *sum, const float *x, int64_t n); /* sum += x */
    double (*sum_squares)(const float *x, int64_t n);
    void (*adamw)(const nv_adamw *a, float grad_scale, const nv_piece *piece); /* the gradient stays */
    const nv_panel_kernels *panels;                                            /* of products */
} nv_row_kernels;

extern const nv_row_kernels nv_rows_generic;
#ifdef NV_X86
extern const nv_row_kernels nv_rows_avx2, nv_rows_avx512, nv_rows_avx512bf16;
#endif

#endif

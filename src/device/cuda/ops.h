/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of the CUDA device's table that are kernels of our own; see device.h for what each does. They only queue work
   on the device's stream. Pointers in their arguments, patches' raster and ids too, are GPU memory. */
#ifndef NV_CUDA_OPS_H
#define NV_CUDA_OPS_H

#include "device/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* seam.cu, seam_backward.cu */
nabla_status nv_cuda_seam(nv_device *dev, const nv_seam *a, nv_error *err);
nabla_status nv_cuda_seam_backward(nv_device *dev, const nv_seam *a, const nv_seam_grad *g, nv_error *err);

/* qk_norm.cu */
nabla_status nv_cuda_qk_norm(nv_device *dev, const nv_qk_norm *a, nv_error *err);
nabla_status nv_cuda_qk_norm_backward(nv_device *dev, const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x,
                                      float *d_weight, float *d_bias, nv_error *err);

/* activate.cu */
nabla_status nv_cuda_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix y, nv_error *err);
nabla_status nv_cuda_activate_backward(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                       nv_matrix again, float *d_bias, nv_error *err);
nabla_status nv_cuda_gate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, nv_error *err);

/* plain.cu */
nabla_status nv_cuda_cast(nv_device *dev, nv_matrix src, nv_matrix dst, nv_error *err);
nabla_status nv_cuda_column_sums(nv_device *dev, nv_matrix x, float *sums, nv_error *err);
nabla_status nv_cuda_add(nv_device *dev, float *sum, const float *x, int64_t n, nv_error *err);

/* softmax.cu */
nabla_status nv_cuda_softmax(nv_device *dev, nv_matrix s, float scale, const float *bias, nv_matrix p, nv_error *err);

/* frames.cu */
nabla_status nv_cuda_channel_norm(nv_device *dev, const nv_channel_norm *a, nv_error *err);
nabla_status nv_cuda_upsample(nv_device *dev, const float *x, int32_t height, int32_t width, nv_matrix y,
                              nv_error *err);

/* ends.cu */
nabla_status nv_cuda_patchify(nv_device *dev, const nv_patches *p, const float *latent, nv_matrix rows, nv_error *err);
nabla_status nv_cuda_unpatchify(nv_device *dev, const nv_patches *p, nv_matrix rows, float *latent, nv_error *err);
nabla_status nv_cuda_sinusoid(nv_device *dev, const float *time, int64_t rows, int64_t dim, float *out, nv_error *err);
nabla_status nv_cuda_modulation(nv_device *dev, const float *table, const float *e, int64_t batch, int64_t chunks,
                                int64_t e_chunks, int64_t dim, float *out, nv_error *err);
nabla_status nv_cuda_modulation_backward(nv_device *dev, const float *d_out, int64_t batch, int64_t chunks,
                                         int64_t e_chunks, int64_t dim, float *d_table, float *d_e, nv_error *err);
nabla_status nv_cuda_embed(nv_device *dev, const float *table, const int32_t *ids, int64_t count, int64_t dim,
                           float *out, nv_error *err);
nabla_status nv_cuda_embed_backward(nv_device *dev, const float *d_out, const int32_t *ids, int64_t count, int64_t dim,
                                    float *d_table, nv_error *err);

/* noise.cu */
nabla_status nv_cuda_noise(nv_device *dev, const nv_noising *a, nv_error *err);

/* solve.cu */
nabla_status nv_cuda_solve(nv_device *dev, const nv_solve *a, nv_error *err);

/* loss.cu */
nabla_status nv_cuda_mse(nv_device *dev, int64_t batch, int64_t n, const float *weight, const float *target,
                         float *output, double *loss, nv_error *err);

/* optimizer.cu */
nabla_status nv_cuda_sum_squares(nv_device *dev, const nv_piece *pieces, int64_t count, double *sum, nv_error *err);
nabla_status nv_cuda_adamw(nv_device *dev, const nv_adamw *a, const nv_piece *pieces, int64_t count, nv_error *err);

#ifdef __cplusplus
}
#endif
#endif

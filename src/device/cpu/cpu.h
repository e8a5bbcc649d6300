/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device from inside: what its files share. */
#ifndef NV_CPU_H
#define NV_CPU_H

#include "device/cpu/product.h"
#include "device/cpu/rows.h"
#include "device/cpu/tile_product.h"
#include "device/device.h"

/* A product's panels are packed while its sums, or a convolution's columns, are kept. */
typedef enum nv_scratch_use { NV_SCRATCH_SUMS, NV_SCRATCH_PANELS, NV_SCRATCH_COLUMNS, NV_SCRATCH_USES } nv_scratch_use;

typedef struct nv_cpu {
    nv_device base;
    const nv_row_kernels *rows;
    const nv_tile_kernels *tiles; /* of products in bf16; NULL: this machine or level has none */
    nv_onednn *onednn;            /* NULL: this build or machine has none */
    char products[2][64];         /* by dtype: who makes them, in words */
    unsigned char onednn_has[2];
    nv_phase phase;
    nv_clock clock;
    double since; /* when the time of `phase` was last added up */
    struct nv_scratch {
        void *data; /* grown on demand, kept */
        size_t bytes;
    } scratch[NV_SCRATCH_USES];
} nv_cpu;

static inline nv_cpu *nv_cpu_of(nv_device *dev) {
    return (nv_cpu *)(void *)dev;
}

/* At least `bytes` of the device's scratch for one use, valid until the next call for it. */
nabla_status nv_cpu_scratch(nv_cpu *cpu, nv_scratch_use use, size_t bytes, void **out, nv_error *err);

/* Rows cut into chunks for the threads: by shape alone, so that partial sums are the same for any number of them. No
   chunk crosses a group. */
typedef struct nv_chunks {
    int64_t group_rows, chunk_rows, per_group, count;
} nv_chunks;
nv_chunks nv_cpu_chunks(int64_t rows, int64_t group_rows);
static inline int64_t nv_chunk_first(const nv_chunks *c, int64_t i) {
    return i / c->per_group * c->group_rows + i % c->per_group * c->chunk_rows;
}
static inline int64_t nv_chunk_last(const nv_chunks *c, int64_t i) {
    const int64_t group_end = (i / c->per_group + 1) * c->group_rows, end = nv_chunk_first(c, i) + c->chunk_rows;
    return end < group_end ? end : group_end;
}

nabla_status nv_cpu_create(const nv_device_options *options, nv_device **out, nv_error *err);

/* The operations, by file. */
nabla_status nv_cpu_linear(nv_device *dev, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, nv_error *err);
nabla_status nv_cpu_linear_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix w, const float *bias,
                                    nv_matrix y, nv_error *err);
nabla_status nv_cpu_linear_backward_input(nv_device *dev, nv_matrix d_y, nv_matrix w, nv_matrix d_x, int add_to,
                                          nv_error *err);
nabla_status nv_cpu_linear_backward_weight(nv_device *dev, nv_matrix d_y, nv_matrix x, float *d_w, float *d_bias,
                                           nv_error *err);
size_t nv_cpu_linear_memory(const nv_device *dev, nabla_dtype dtype, int64_t rows, int64_t in, int64_t out,
                            int backward);
nabla_status nv_cpu_seam(nv_device *dev, const nv_seam *a, nv_error *err);
nabla_status nv_cpu_seam_backward(nv_device *dev, const nv_seam *a, const nv_seam_grad *g, nv_error *err);
nabla_status nv_cpu_qk_norm(nv_device *dev, const nv_qk_norm *a, nv_error *err);
nabla_status nv_cpu_qk_norm_backward(nv_device *dev, const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, float *d_weight,
                                     float *d_bias, nv_error *err);
nabla_status nv_cpu_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix y, nv_error *err);
nabla_status nv_cpu_activate_backward(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                      nv_matrix again, float *d_bias, nv_error *err);
nabla_status nv_cpu_gate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, nv_error *err);
nabla_status nv_cpu_softmax(nv_device *dev, nv_matrix s, float scale, const float *bias, nv_matrix p, nv_error *err);
nabla_status nv_cpu_cast(nv_device *dev, nv_matrix src, nv_matrix dst, nv_error *err);
nabla_status nv_cpu_column_sums(nv_device *dev, nv_matrix x, float *sums, nv_error *err);
nabla_status nv_cpu_add(nv_device *dev, float *sum, const float *x, int64_t n, nv_error *err);
nabla_status nv_cpu_channel_norm(nv_device *dev, const nv_channel_norm *a, nv_error *err);
nabla_status nv_cpu_upsample(nv_device *dev, const float *x, int32_t height, int32_t width, nv_matrix y, nv_error *err);
nabla_status nv_cpu_conv_weights(nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype, const float *values,
                                 nv_conv_weights **out, nv_error *err);
size_t nv_cpu_conv_weights_bytes(const nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype);
void nv_cpu_conv_weights_release(nv_device *dev, nv_conv_weights *weights);
nabla_status nv_cpu_conv(nv_device *dev, const nv_conv *a, nv_error *err);
nabla_status nv_cpu_patchify(nv_device *dev, const nv_patches *p, const float *latent, nv_matrix rows, nv_error *err);
nabla_status nv_cpu_unpatchify(nv_device *dev, const nv_patches *p, nv_matrix rows, float *latent, nv_error *err);
nabla_status nv_cpu_sinusoid(nv_device *dev, const float *time, int64_t rows, int64_t dim, float *out, nv_error *err);
nabla_status nv_cpu_modulation(nv_device *dev, const float *table, const float *e, int64_t batch, int64_t chunks,
                               int64_t e_chunks, int64_t dim, float *out, nv_error *err);
nabla_status nv_cpu_modulation_backward(nv_device *dev, const float *d_out, int64_t batch, int64_t chunks,
                                        int64_t e_chunks, int64_t dim, float *d_table, float *d_e, nv_error *err);
nabla_status nv_cpu_embed(nv_device *dev, const float *table, const int32_t *ids, int64_t count, int64_t dim,
                          float *out, nv_error *err);
nabla_status nv_cpu_embed_backward(nv_device *dev, const float *d_out, const int32_t *ids, int64_t count, int64_t dim,
                                   float *d_table, nv_error *err);
nabla_status nv_cpu_solve(nv_device *dev, const nv_solve *a, nv_error *err);
nabla_status nv_cpu_mse(nv_device *dev, int64_t batch, int64_t n, const float *weight, const float *target,
                        float *output, double *loss, nv_error *err);
nabla_status nv_cpu_noise(nv_device *dev, const nv_noising *a, nv_error *err);
nabla_status nv_cpu_sum_squares(nv_device *dev, const nv_piece *pieces, int64_t count, double *sum, nv_error *err);
nabla_status nv_cpu_adamw(nv_device *dev, const nv_adamw *a, const nv_piece *pieces, int64_t count, nv_error *err);

#endif

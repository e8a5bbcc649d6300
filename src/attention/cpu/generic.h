/* SPDX-License-Identifier: Apache-2.0 */
/* What the generic level's files share. */
#ifndef NABLA_GENERIC_H
#define NABLA_GENERIC_H

#include "kernel.h"

enum { GENERIC_CHUNK = 64 /* rows of keys, and of queries in the backward pass, at a time */ };

NABLA_DECL_BLOCK_MEAN(block_mean_fp32_generic);
NABLA_DECL_BLOCK_MEAN(block_mean_bf16_generic);
NABLA_DECL_PUT_KEY(put_key_generic);
NABLA_DECL_SCORE_ROWS(score_rows_generic);
NABLA_DECL_SCORE_SOFTMAX(score_softmax_generic);
NABLA_DECL_DELTA(delta_generic);
NABLA_DECL_FORWARD(forward_fp32_generic);
NABLA_DECL_FORWARD(forward_bf16_generic);
NABLA_DECL_BACKWARD(backward_kv_fp32_generic);
NABLA_DECL_BACKWARD(backward_kv_bf16_generic);
NABLA_DECL_BACKWARD(backward_q_fp32_generic);
NABLA_DECL_BACKWARD(backward_q_bf16_generic);
size_t forward_scratch_generic(int32_t head_dim);
nabla_forward_kernels int8_kernels_generic(nabla_dtype dtype);
size_t backward_scratch_generic(int32_t head_dim);

/* rows [first, first + count) as fp32, row-major [count][D] or transposed [D][GENERIC_CHUNK]. */
void generic_load(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t count, int32_t head_dim, float *out);
void generic_load_transposed(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t count, int32_t head_dim,
                             float *out);
/* out[i][j] = dot(a[i], b[j]) for rows rows of a and all GENERIC_CHUNK columns of b, which is transposed; sums over
   d in ascending order. out: [rows][GENERIC_CHUNK]. */
void generic_products(const float *a, int32_t rows, const float *b, int32_t head_dim, float *out);

#endif

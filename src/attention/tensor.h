/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the caller's tensors, and addresses within them. */
#ifndef NABLA_TENSOR_H
#define NABLA_TENSOR_H

#include "context.h"

enum { NABLA_ACCEPT_FP32 = 1 << NABLA_FP32, NABLA_ACCEPT_BF16 = 1 << NABLA_BF16, NABLA_ACCEPT_FP16 = 1 << NABLA_FP16 };

/* "fp32 or bf16": the dtypes of a set of NABLA_ACCEPT_* bits. */
const char *nabla_dtype_names(unsigned accept);

typedef enum nabla_access { NABLA_READ, NABLA_WRITE } nabla_access;

/* Refuses a tensor that is NULL, of another rank, shape or dtype (accept: NABLA_ACCEPT_* bits), whose last dimension is
   not contiguous, whose extent overflows, whose data the device cannot reach, or, where it is written, whose elements
   share memory. */
nabla_status nabla_check_tensor(nabla_context *ctx, const char *name, const nabla_tensor *t, unsigned accept,
                                int32_t rank, const int64_t *shape, nabla_access access);

/* Rank, dtype, data and strides alone, for tensors whose shape is looked at afterwards. */
nabla_status nabla_check_view(nabla_context *ctx, const char *name, const nabla_tensor *t, nabla_access access);

/* 16 to 256 in steps of 8. */
nabla_status nabla_check_head_dim(nabla_context *ctx, int64_t head_dim);

/* Finite, with 0 standing for 1 / sqrt(D). */
nabla_status nabla_check_scale(nabla_context *ctx, float scale, int64_t head_dim, float *out);

/* t[i0, i1, i2, 0] of a rank-4 tensor. */
void *nabla_tensor_at(const nabla_tensor *t, int64_t i0, int64_t i1, int64_t i2);

/* The rows of head h of batch b of [B, S, H, D]. */
nabla_rows nabla_tensor_rows(const nabla_tensor *t, int64_t b, int64_t h);

#endif

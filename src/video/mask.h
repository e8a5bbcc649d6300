/* SPDX-License-Identifier: Apache-2.0 */
/* Draws what a plan keeps. */
#ifndef NV_MASK_H
#define NV_MASK_H

#include "tensor/error.h"

/* One square a head of the plan's `entry`-th sample, in a grid of heads: a row of pixels a query block, a column a key
   block, bright where kept. batch and heads are the plan's. */
nabla_status nv_mask_write(nabla_context *ctx, const nabla_plan *plan, int64_t batch, int64_t heads, int64_t entry,
                           const char *path, nv_error *err);

#endif

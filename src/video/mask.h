/* SPDX-License-Identifier: Apache-2.0 */
/* Draws what a plan keeps. */
#ifndef NV_MASK_H
#define NV_MASK_H

#include "tensor/error.h"

typedef struct nv_mask_view {
    int64_t batch, heads;       /* the plan's */
    int64_t sample;             /* which of the batch is drawn */
    int64_t q_frames, k_frames; /* rows of tiles in time, whose edges are marked; 0: none */
} nv_mask_view;

/* A PNG with one square a head: a row a query block, a column a key block, bright where kept. */
nabla_status nv_mask_write(nabla_context *ctx, const nabla_plan *plan, const nv_mask_view *view, const char *path,
                           nv_error *err);

#endif

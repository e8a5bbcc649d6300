/* SPDX-License-Identifier: Apache-2.0 */
/* Draws which blocks attend to which. */
#ifndef NV_MASK_IMAGE_H
#define NV_MASK_IMAGE_H

#include "tensor/error.h"

typedef struct nv_mask_picture {
    const uint8_t *kept; /* [heads, rows, columns]: 0 or 1; a row is a query block, a column a key block */
    int64_t heads, rows, columns;
    int64_t row_frames, column_frames; /* the video's frames, whose edges are marked; 0: none */
    int32_t most;                      /* pixels a side; larger pictures show means of neighbouring blocks */
} nv_mask_picture;

/* One square a head, in a grid of heads: kept blocks bright, others dark; few blocks are drawn several pixels wide.
 *rgb: [*height, *width, 3], the caller frees it. */
nabla_status nv_mask_rgb(const nv_mask_picture *picture, uint8_t **rgb, int32_t *width, int32_t *height, nv_error *err);

#endif

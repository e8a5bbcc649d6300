/* SPDX-License-Identifier: Apache-2.0 */
/* The four shapes as outlines: what the clips draw, and what the checker compares with. */
#ifndef NV_OUTLINE_H
#define NV_OUTLINE_H

#include "train/clips.h"

enum { NV_STAR_POINTS = 5, NV_MAX_CORNERS = 2 * NV_STAR_POINTS };

/* Corners around the centre of gravity, in pixels, y downwards; none for a circle. */
typedef struct nv_outline {
    int count;
    float radius; /* circumscribed */
    float corner[NV_MAX_CORNERS][2];
} nv_outline;

nv_outline nv_outline_make(nv_shape shape, float radius);
/* The radius at which a shape covers so many square pixels. */
float nv_outline_radius(nv_shape shape, float area);
/* Share of the pixel around (x, y) that the shape covers, 0 to 1, taken from the distance of its centre to the outline:
   close to the area covered, exact along straight edges that follow the pixels. */
float nv_outline_cover(const nv_outline *outline, float x, float y);

#endif

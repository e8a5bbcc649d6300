/* SPDX-License-Identifier: Apache-2.0 */
/* The checker's two halves: what one frame shows, and what a path of positions means. */
#ifndef NV_SIGHTING_H
#define NV_SIGHTING_H

#include "train/clips.h"

/* An object that stands out in a frame. */
typedef struct nv_spot {
    float x, y;           /* centre of gravity, in units of the frame */
    int32_t cut;          /* 1: it touches the frame's edge, and may go on behind it */
    float area;           /* share of the frame */
    float rgb[3];         /* mean of its inside, in [0, 1] */
    float fit[NV_SHAPES]; /* how well it overlaps with each shape of its area: intersection over union */
} nv_spot;

/* plane: floats between two colours of the frame. 0 if there is none, or more than one, or only noise. */
int nv_spot_find(const float *frame, size_t plane, int32_t height, int32_t width, nv_spot *spot);

/* All of them, largest first, at most `most`; returns how many there are, specks not counted. */
int32_t nv_spot_list(const float *frame, size_t plane, int32_t height, int32_t width, nv_spot *spots, int32_t most);

/* What people call a colour (red, green, blue in [0, 1]), and the shape that fits; -1: neither clearly. */
int32_t nv_name_colour(const float rgb[3]);
int32_t nv_name_shape(const float fit[NV_SHAPES]);

/* A centre's position at a time; times ascend, one unit a frame. */
typedef struct nv_station {
    float time, x, y;
} nv_station;

/* An nv_motion, or -1; net gets the straight line's displacement from the first station to the last. */
int32_t nv_path_motion(const nv_station *stations, int32_t count, float net[2]);

#endif

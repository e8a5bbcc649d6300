/* SPDX-License-Identifier: Apache-2.0 */
/* The steps in which clips are drawn, for who puts several objects into one. */
#ifndef NV_PAINTING_H
#define NV_PAINTING_H

#include <stddef.h>

#include "train/clips.h"

/* Uniform in [low, high). */
float nv_between(nv_philox *g, float low, float high);
/* All of a scene but its place and path, which stay 0; the motion is one of the first `motions`. held_out: as
   nv_scene_draw. */
void nv_scene_draw_looks(nv_philox *g, uint32_t motions, int held_out, nv_scene *scene);
/* Circumscribed, in units of the frame's shorter side. */
float nv_scene_radius(const nv_scene *scene);
/* Where its centre is in a frame of so many, in units of the frame. */
void nv_scene_centre(const nv_scene *scene, int32_t frame, int32_t frames, float *x, float *y);
/* video: [3, plane] gets the scene's background. */
void nv_scene_fill(const nv_scene *scene, size_t plane, float *video);
/* Mixes the scene's object into every frame. */
void nv_scene_paint(const nv_scene *scene, int32_t frames, int32_t height, int32_t width, float *video);

#endif

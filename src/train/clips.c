/* SPDX-License-Identifier: Apache-2.0 */
#include "train/clips.h"

#include <math.h>
#include <stddef.h>

#include "train/outline.h"
#include "train/painting.h"

/* Red, green, blue in [0, 1]: saturated and far apart in hue; backgrounds so dark that every colour stands out. */
static const float colour_rgb[NV_COLOURS][3] = {
    [NV_RED] = {0.92f, 0.16f, 0.14f},    [NV_GREEN] = {0.16f, 0.80f, 0.24f}, [NV_BLUE] = {0.16f, 0.38f, 0.98f},
    [NV_YELLOW] = {0.97f, 0.87f, 0.14f}, [NV_WHITE] = {0.95f, 0.95f, 0.95f}, [NV_PURPLE] = {0.66f, 0.22f, 0.86f},
};
static const float background_rgb[NV_BACKGROUNDS][3] = {
    [NV_BLACK] = {0.03f, 0.03f, 0.03f}, [NV_GREY] = {0.25f, 0.25f, 0.26f}, [NV_NAVY] = {0.04f, 0.07f, 0.24f}};
static const float tint_range = 0.04f, background_tint = 0.4f;

/* A size's radius in units of the shorter side of the frame, and what each shape makes of it: the circumscribed radius
   is scaled so that shapes of one size look equally heavy. */
static const float size_radius[NV_SIZES] = {[NV_SMALL] = 0.13f, [NV_MEDIUM] = 0.17f, [NV_LARGE] = 0.21f};
static const float shape_scale[NV_SHAPES] = {
    [NV_CIRCLE] = 0.90f, [NV_SQUARE] = 1.04f, [NV_TRIANGLE] = 1.12f, [NV_STAR] = 1.12f};
static const float pi = 3.14159265358979f;

/* ------------------------------------------------------------------ drawing lots */

/* One shape for every (colour, motion) of equal parity: 18 of 144 triples, three a colour, three a motion, four or
   five a shape; no (colour, shape) or (shape, motion) is held out twice, so all pairs stay in training. */
int nv_scene_held_out(nv_colour colour, nv_shape shape, nv_motion motion) {
    unsigned sum = (unsigned)colour + (unsigned)motion;
    return sum % 2 == 0 && sum / 2 % NV_SHAPES == (unsigned)shape;
}

float nv_between(nv_philox *g, float low, float high) {
    return low + (high - low) * nv_philox_uniform(g);
}

static float clamp(float x, float low, float high) {
    return fminf(fmaxf(x, low), high);
}

float nv_scene_radius(const nv_scene *scene) {
    return (1.0f - scene->shrink) * size_radius[scene->size] * shape_scale[scene->shape];
}

/* Where it begins: the middle of a straight path lies near the frame's middle, so that position in one frame tells
   little of the motion. */
static void draw_path(nv_philox *g, nv_scene *scene) {
    float edge = nv_scene_radius(scene) + 0.005f;
    float across = nv_between(g, -0.08f, 0.08f), along = nv_between(g, -0.03f, 0.03f),
          length = nv_between(g, 0.40f, 0.44f);
    float half = 0.5f * length, room = 0.5f - edge;
    across = 0.5f + clamp(across, -room, room);
    along = 0.5f + clamp(along, -(room - half), room - half);
    scene->travel = length;
    switch (scene->motion) {
    case NV_LEFT:
    case NV_RIGHT:
        scene->x = scene->motion == NV_RIGHT ? along - half : along + half;
        scene->y = across;
        break;
    case NV_UP:
    case NV_DOWN:
        scene->x = across;
        scene->y = scene->motion == NV_DOWN ? along - half : along + half;
        break;
    case NV_AROUND:
        scene->travel = nv_between(g, 0.20f, 0.23f);
        scene->angle = -0.5f * pi + nv_between(g, -0.2f, 0.2f);
        room -= scene->travel;
        scene->x = 0.5f + clamp(nv_between(g, -0.05f, 0.05f), -room, room) + scene->travel * cosf(scene->angle);
        scene->y = 0.5f + clamp(nv_between(g, -0.05f, 0.05f), -room, room) + scene->travel * sinf(scene->angle);
        break;
    default:
        scene->travel = 0.0f;
        scene->x = 0.5f + nv_between(g, -0.1f, 0.1f);
        scene->y = 0.5f + nv_between(g, -0.1f, 0.1f);
        break;
    }
}

void nv_scene_draw_looks(nv_philox *g, uint32_t motions, int held_out, nv_scene *scene) {
    *scene = (nv_scene){0};
    do {
        scene->colour = (nv_colour)nv_philox_below(g, NV_COLOURS);
        scene->shape = (nv_shape)nv_philox_below(g, NV_SHAPES);
        scene->motion = (nv_motion)nv_philox_below(g, motions);
    } while (held_out >= 0 && nv_scene_held_out(scene->colour, scene->shape, scene->motion) != (held_out != 0));
    scene->size = (nv_size)nv_philox_below(g, NV_SIZES);
    uint32_t wording = nv_philox_below(g, NV_WORDINGS + 1);
    scene->wording = wording < NV_WORDINGS ? (nv_wording)wording : NV_MOVING; /* the plainest twice as often */
    scene->named_background = nv_philox_below(g, 3) == 0;
    if (scene->named_background) scene->background = (nv_background)nv_philox_below(g, NV_BACKGROUNDS);
    for (int c = 0; c < 3; c++) {
        scene->tint[c] = nv_between(g, -tint_range, tint_range);
    }
}

void nv_scene_draw(nv_philox *g, int held_out, nv_scene *scene) {
    nv_scene_draw_looks(g, NV_MOTIONS, held_out, scene);
    draw_path(g, scene);
}

/* ------------------------------------------------------------------ rendering */

/* Of an NV_RETURNING, how far out it is, 0 to 1: steadily out, a while away, steadily back. */
static float way_out(int32_t frame, int32_t frames) {
    float time = frames > 1 ? (float)frame / (float)(frames - 1) : 0.0f;
    return fminf(2.4f * fminf(time, 1.0f - time), 1.0f);
}

void nv_scene_centre(const nv_scene *scene, int32_t frame, int32_t frames, float *x, float *y) {
    float part = frames > 1 ? scene->travel * (float)frame / (float)(frames - 1) : 0.0f;
    *x = scene->x;
    *y = scene->y;
    if (scene->motion == NV_LEFT) *x -= part;
    if (scene->motion == NV_RIGHT) *x += part;
    if (scene->motion == NV_UP) *y -= part;
    if (scene->motion == NV_DOWN) *y += part;
    if (scene->motion == NV_AROUND) {
        /* one whole turn a clip, so the frame after the last would be the first again */
        float angle = scene->angle + 2.0f * pi * (float)frame / (float)frames;
        *x += scene->travel * (cosf(angle) - cosf(scene->angle));
        *y += scene->travel * (sinf(angle) - sinf(scene->angle));
    }
    if (scene->motion == NV_RETURNING) {
        float out = scene->travel * way_out(frame, frames);
        *x += out * cosf(scene->angle);
        *y += out * sinf(scene->angle);
    }
}

/* Mixes the object into one frame; planes lie `plane` floats apart. */
static void draw_object(const nv_scene *scene, const float rgb[3], float cx, float cy, int32_t height, int32_t width,
                        size_t plane, float *frame) {
    float radius = nv_scene_radius(scene) * (float)(width < height ? width : height);
    nv_outline outline = nv_outline_make(scene->shape, radius);
    cx *= (float)width;
    cy *= (float)height;
    int32_t x0 = (int32_t)fmaxf(cx - radius - 1.0f, 0.0f), x1 = (int32_t)fminf(cx + radius + 2.0f, (float)width);
    int32_t y0 = (int32_t)fmaxf(cy - radius - 1.0f, 0.0f), y1 = (int32_t)fminf(cy + radius + 2.0f, (float)height);
    for (int32_t y = y0; y < y1; y++) {
        for (int32_t x = x0; x < x1; x++) {
            float share = nv_outline_cover(&outline, (float)x + 0.5f - cx, (float)y + 0.5f - cy);
            float *pixel = frame + (size_t)y * (size_t)width + (size_t)x;
            for (int c = 0; c < 3; c++) {
                pixel[(size_t)c * plane] += share * (rgb[c] - pixel[(size_t)c * plane]);
            }
        }
    }
}

static float to_pixel(float share) {
    return 2.0f * clamp(share, 0.0f, 1.0f) - 1.0f;
}

void nv_scene_fill(const nv_scene *scene, size_t plane, float *video) {
    for (int c = 0; c < 3; c++) {
        float behind = to_pixel(background_rgb[scene->background][c] + background_tint * scene->tint[2 - c]);
        for (size_t i = 0; i < plane; i++) {
            video[(size_t)c * plane + i] = behind;
        }
    }
}

void nv_scene_paint(const nv_scene *scene, int32_t frames, int32_t height, int32_t width, float *video) {
    size_t area = (size_t)height * (size_t)width, plane = area * (size_t)frames;
    float object[3];
    for (int c = 0; c < 3; c++) {
        object[c] = to_pixel(colour_rgb[scene->colour][c] + scene->tint[c]);
    }
    for (int32_t f = 0; f < frames; f++) {
        float x, y;
        nv_scene_centre(scene, f, frames, &x, &y);
        draw_object(scene, object, x, y, height, width, plane, video + (size_t)f * area);
    }
}

void nv_scene_render(const nv_scene *scene, int32_t frames, int32_t height, int32_t width, float *video) {
    nv_scene_fill(scene, (size_t)frames * (size_t)height * (size_t)width, video);
    nv_scene_paint(scene, frames, height, width, video);
}

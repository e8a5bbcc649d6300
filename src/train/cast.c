/* SPDX-License-Identifier: Apache-2.0 */
#include "train/cast.h"

#include <math.h>

#include "train/painting.h"

static const float pi = 3.14159265358979f;
static const float shrink = 0.38f;                        /* room for two */
static const float gap = 0.06f;                           /* between two outlines, in units of the frame */
static const float least_apart = 0.2f, most_slant = 0.6f; /* centres that have a relation */
enum { MOMENTS = 16 /* at which two objects must be apart */, TRIES = 2000 };

static float room_beyond(float edge) {
    return 1.0f - 2.0f * edge;
}

/* Goes out by the nearest side: `angle` says by which. Begins and ends well inside, so that two frames of eight show it
   whole on either way. */
static void place_returning(nv_philox *g, float radius, nv_scene *s) {
    uint32_t side = nv_philox_below(g, 4);
    float depth = 2.0f * radius + nv_between(g, 0.01f, 0.1f), along = nv_between(g, radius + 0.01f, 0.99f - radius);
    s->angle = 0.5f * pi * (float)side;
    s->travel = depth + radius + 0.02f;
    s->x = side == 0 ? 1.0f - depth : side == 2 ? depth : along;
    s->y = side == 1 ? 1.0f - depth : side == 3 ? depth : along;
}

/* Anywhere from where it stays in the picture. */
static void place(nv_philox *g, nv_scene *s) {
    float edge = nv_scene_radius(s) + 0.01f, back, orbit;
    s->x = edge + room_beyond(edge) * nv_philox_uniform(g);
    s->y = edge + room_beyond(edge) * nv_philox_uniform(g);
    s->travel = s->motion == NV_STILL ? 0.0f : nv_between(g, 0.22f, 0.32f);
    back = s->travel * nv_philox_uniform(g);
    switch ((int)s->motion) {
    case NV_LEFT:
        s->x = fminf(fmaxf(s->x + back, edge + s->travel), 1.0f - edge);
        break;
    case NV_RIGHT:
        s->x = fmaxf(fminf(s->x - back, 1.0f - edge - s->travel), edge);
        break;
    case NV_UP:
        s->y = fminf(fmaxf(s->y + back, edge + s->travel), 1.0f - edge);
        break;
    case NV_DOWN:
        s->y = fmaxf(fminf(s->y - back, 1.0f - edge - s->travel), edge);
        break;
    case NV_AROUND:
        s->travel = nv_between(g, 0.12f, 0.15f);
        s->angle = 2.0f * pi * nv_philox_uniform(g);
        orbit = edge + s->travel;
        s->x = orbit + room_beyond(orbit) * nv_philox_uniform(g) + s->travel * cosf(s->angle);
        s->y = orbit + room_beyond(orbit) * nv_philox_uniform(g) + s->travel * sinf(s->angle);
        break;
    case NV_RETURNING:
        place_returning(g, edge, s);
        break;
    default:
        break;
    }
}

/* Whether the objects stay apart, and the first one where the relation says: on that side of the other at any time and,
   taken over all of it, clearly more so than across. */
static int agrees(const nv_cast *cast) {
    const nv_scene *a = &cast->actor[0], *b = &cast->actor[1];
    const int across = cast->relation == NV_ABOVE || cast->relation == NV_BELOW;
    const float sign = cast->relation == NV_LEFT_OF || cast->relation == NV_ABOVE ? 1.0f : -1.0f;
    float least = nv_scene_radius(a) + nv_scene_radius(b) + gap, along = 0.0f, aside = 0.0f;
    for (int32_t i = 0; i < MOMENTS; i++) {
        float ax, ay, bx, by;
        nv_scene_centre(a, i, MOMENTS, &ax, &ay);
        nv_scene_centre(b, i, MOMENTS, &bx, &by);
        float dx = bx - ax, dy = by - ay, ahead = sign * (across ? dy : dx);
        if (dx * dx + dy * dy < least * least) return 0;
        if (cast->relation >= 0 && ahead < 0.5f * least_apart) return 0;
        along += ahead / (float)MOMENTS;
        aside += (across ? dx : dy) / (float)MOMENTS;
    }
    return cast->relation < 0 || (along > least_apart && fabsf(aside) < most_slant * along);
}

static void draw_actor(nv_philox *g, int held_out, nv_scene *s) {
    nv_scene_draw_looks(g, NV_CAST_MOTIONS, held_out, s);
    s->shrink = shrink;
}

/* Some pairs of paths hardly find room beside each other; after many tries other objects are drawn. */
void nv_cast_draw(nv_philox *g, int held_out, nv_cast *cast) {
    const uint32_t kind = nv_philox_below(g, 8); /* 0, 1: alone; 2, 3: joined by "and"; 4 to 7: a relation */
    const uint32_t relation = nv_philox_below(g, NV_RELATIONS);
    *cast = (nv_cast){.count = kind < 2 && held_out != 1 ? 1 : 2, .relation = -1};
    if (cast->count == 2 && kind >= 4) cast->relation = (int32_t)relation;
    for (;;) {
        for (int32_t i = 0; i < cast->count; i++)
            draw_actor(g, held_out, &cast->actor[i]);
        if (cast->count == 2 && cast->actor[0].colour == cast->actor[1].colour) continue;
        for (int try = 0; try < TRIES; try++) {
            for (int32_t i = 0; i < cast->count; i++)
                place(g, &cast->actor[i]);
            if (cast->count == 1 || agrees(cast)) return;
        }
    }
}

void nv_cast_render(const nv_cast *cast, int32_t frames, int32_t height, int32_t width, float *video) {
    nv_scene_fill(&cast->actor[0], (size_t)frames * (size_t)height * (size_t)width, video);
    for (int32_t i = 0; i < cast->count; i++)
        nv_scene_paint(&cast->actor[i], frames, height, width, video);
}

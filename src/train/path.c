/* SPDX-License-Identifier: Apache-2.0 */
/* Names a path: compares it with a straight line, a turn around its own middle, and rest. */
#include <math.h>

#include "train/sighting.h"

/* In units of the frame, as people would judge it; clips move 0.38 or more, or around 0.2 and more. */
static const float least_move = 0.15f, most_rest = 0.06f, least_orbit = 0.1f;
static const float most_bend = 0.2f;                /* root mean square off the line, of its length */
static const float most_slant = 0.57735f;           /* tan 30 degrees off the axis */
static const float most_wobble = 0.35f;             /* standard deviation of an orbit's radius, of its mean */
static const float least_turn = 0.6f * 6.28318531f; /* of a whole turn, less the step that closes it */

typedef struct fit {
    float x, y;         /* mean position */
    float net[2];       /* along the line of least squares, first station to last */
    float off, scatter; /* root mean square off the line, and off the mean position */
} fit;

static fit fit_line(const nv_station *s, int32_t n) {
    fit f = {0};
    float count = (float)n, time = 0.0f, tt = 0.0f, tx = 0.0f, ty = 0.0f;
    for (int32_t i = 0; i < n; i++) {
        time += s[i].time / count;
        f.x += s[i].x / count;
        f.y += s[i].y / count;
    }
    for (int32_t i = 0; i < n; i++) {
        float t = s[i].time - time;
        tt += t * t;
        tx += t * (s[i].x - f.x);
        ty += t * (s[i].y - f.y);
    }
    float vx = tx / tt, vy = ty / tt, span = s[n - 1].time - s[0].time;
    f.net[0] = vx * span;
    f.net[1] = vy * span;
    for (int32_t i = 0; i < n; i++) {
        float t = s[i].time - time, dx = s[i].x - f.x, dy = s[i].y - f.y;
        f.scatter += (dx * dx + dy * dy) / count;
        f.off += ((dx - vx * t) * (dx - vx * t) + (dy - vy * t) * (dy - vy * t)) / count;
    }
    f.scatter = sqrtf(f.scatter);
    f.off = sqrtf(f.off);
    return f;
}

/* The centre of the circle nearest to the stations (Kasa 1976: least squares of squared radii), 0 if they lie on a line
   or a point. */
static int fit_circle(const nv_station *s, int32_t n, const fit *f, float centre[2]) {
    float uu = 0.0f, uv = 0.0f, vv = 0.0f, ur = 0.0f, vr = 0.0f;
    for (int32_t i = 0; i < n; i++) {
        float u = s[i].x - f->x, v = s[i].y - f->y, square = u * u + v * v;
        uu += u * u;
        uv += u * v;
        vv += v * v;
        ur += 0.5f * u * square;
        vr += 0.5f * v * square;
    }
    float det = uu * vv - uv * uv;
    if (!(det > 1e-3f * (uu + vv) * (uu + vv))) return 0;
    centre[0] = f->x + (ur * vv - vr * uv) / det;
    centre[1] = f->y + (vr * uu - ur * uv) / det;
    return 1;
}

/* A steady distance from a centre, and angles that go round it one way. */
static int goes_around(const nv_station *s, int32_t n, const fit *f) {
    float c[2], mean = 0.0f, square = 0.0f, turn = 0.0f, count = (float)n;
    if (!fit_circle(s, n, f, c)) return 0;
    for (int32_t i = 0; i < n; i++) {
        float dx = s[i].x - c[0], dy = s[i].y - c[1];
        mean += sqrtf(dx * dx + dy * dy) / count;
        square += (dx * dx + dy * dy) / count;
        if (i == 0) continue;
        float px = s[i - 1].x - c[0], py = s[i - 1].y - c[1];
        turn += atan2f(px * dy - py * dx, px * dx + py * dy);
    }
    float wobble = sqrtf(fmaxf(square - mean * mean, 0.0f)), closing = (count - 1.0f) / count;
    return mean > least_orbit && wobble < most_wobble * mean && fabsf(turn) > least_turn * closing;
}

int32_t nv_path_motion(const nv_station *stations, int32_t count, float net[2]) {
    net[0] = net[1] = 0.0f;
    if (count < 2) return -1;
    fit f = fit_line(stations, count);
    net[0] = f.net[0];
    net[1] = f.net[1];
    float across = fabsf(net[0]), down = fabsf(net[1]), length = sqrtf(across * across + down * down);
    if (count >= 4 && goes_around(stations, count, &f)) return NV_AROUND;
    if (length < most_rest && f.scatter < most_rest) return NV_STILL;
    if (!(length > least_move) || f.off > most_bend * length) return -1;
    if (down < most_slant * across) return net[0] < 0.0f ? NV_LEFT : NV_RIGHT;
    if (across < most_slant * down) return net[1] < 0.0f ? NV_UP : NV_DOWN;
    return -1;
}

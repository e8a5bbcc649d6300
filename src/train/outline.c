/* SPDX-License-Identifier: Apache-2.0 */
#include "train/outline.h"

#include <math.h>

static const float pi = 3.14159265358979f;
static const float star_inner = 0.45f; /* inner corners' radius against the points' */

nv_outline nv_outline_make(nv_shape shape, float radius) {
    nv_outline o = {.radius = radius};
    o.count = shape == NV_SQUARE ? 4 : shape == NV_TRIANGLE ? 3 : shape == NV_STAR ? NV_MAX_CORNERS : 0;
    float turn = shape == NV_SQUARE ? 0.25f * pi : 0.0f; /* the others stand on their base, a corner up */
    for (int i = 0; i < o.count; i++) {
        float r = shape == NV_STAR && i % 2 ? radius * star_inner : radius;
        float angle = turn + 2.0f * pi * (float)i / (float)o.count;
        o.corner[i][0] = r * sinf(angle);
        o.corner[i][1] = -r * cosf(angle);
    }
    return o;
}

float nv_outline_radius(nv_shape shape, float area) {
    float unit = pi; /* area at radius 1 */
    if (shape == NV_SQUARE) unit = 2.0f;
    if (shape == NV_TRIANGLE) unit = 0.75f * sqrtf(3.0f);
    if (shape == NV_STAR) unit = (float)NV_STAR_POINTS * star_inner * sinf(pi / (float)NV_STAR_POINTS);
    return sqrtf(area / unit);
}

/* Signed distance from (x, y) to a polygon's outline, negative inside (even-odd rule). */
static float polygon_distance(const nv_outline *o, float x, float y) {
    float nearest = INFINITY;
    int inside = 0;
    for (int i = 0, j = o->count - 1; i < o->count; j = i++) {
        const float *a = o->corner[i], *b = o->corner[j];
        float ex = b[0] - a[0], ey = b[1] - a[1], px = x - a[0], py = y - a[1];
        float t = fminf(fmaxf((px * ex + py * ey) / (ex * ex + ey * ey), 0.0f), 1.0f);
        float dx = px - t * ex, dy = py - t * ey;
        nearest = fminf(nearest, dx * dx + dy * dy);
        if ((a[1] > y) != (b[1] > y) && px < ex * py / ey) inside = !inside;
    }
    return inside ? -sqrtf(nearest) : sqrtf(nearest);
}

float nv_outline_cover(const nv_outline *outline, float x, float y) {
    float square = x * x + y * y, reach = outline->radius + 1.0f;
    if (square > reach * reach) return 0.0f;
    float distance = outline->count ? polygon_distance(outline, x, y) : sqrtf(square) - outline->radius;
    return fminf(fmaxf(0.5f - distance, 0.0f), 1.0f);
}

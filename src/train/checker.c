/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stddef.h>

#include "train/sighting.h"

enum { MAX_STATIONS = 64 };                               /* frames looked at, spread over longer clips */
static const float least_seen = 0.75f;                    /* of the frames must show one object */
static const float least_fit = 0.62f, least_lead = 0.01f; /* overlap with the best shape, and over the second best */

/* Hue in degrees, [0, 360); saturation and value in [0, 1]. */
static void to_hsv(const float rgb[3], float *hue, float *saturation, float *value) {
    float high = fmaxf(rgb[0], fmaxf(rgb[1], rgb[2])), low = fminf(rgb[0], fminf(rgb[1], rgb[2])), range = high - low;
    float h = 0.0f;
    if (range > 0.0f) {
        if (high == rgb[0])
            h = (rgb[1] - rgb[2]) / range;
        else if (high == rgb[1])
            h = 2.0f + (rgb[2] - rgb[0]) / range;
        else
            h = 4.0f + (rgb[0] - rgb[1]) / range;
    }
    *hue = h < 0.0f ? 60.0f * h + 360.0f : 60.0f * h;
    *saturation = high > 0.0f ? range / high : 0.0f;
    *value = high;
}

/* What people call a colour: ranges of hue with gaps where they would disagree (orange, cyan, pink). */
int32_t nv_name_colour(const float rgb[3]) {
    static const struct {
        nv_colour colour;
        float from, to;
    } hues[] = {{NV_RED, -20.0f, 22.0f},   {NV_YELLOW, 40.0f, 75.0f},   {NV_GREEN, 90.0f, 165.0f},
                {NV_BLUE, 195.0f, 248.0f}, {NV_PURPLE, 260.0f, 315.0f}, {NV_RED, 340.0f, 361.0f}};
    float hue, saturation, value;
    to_hsv(rgb, &hue, &saturation, &value);
    if (value < 0.4f) return -1;
    if (saturation < 0.22f) return value > 0.65f ? NV_WHITE : -1;
    if (saturation < 0.35f) return -1;
    for (size_t i = 0; i < sizeof hues / sizeof *hues; i++) {
        if (hue >= hues[i].from && hue < hues[i].to) return (int32_t)hues[i].colour;
    }
    return -1;
}

int32_t nv_name_shape(const float fit[NV_SHAPES]) {
    int32_t best = 0, second = -1;
    for (int32_t s = 1; s < NV_SHAPES; s++) {
        if (fit[s] > fit[best]) {
            second = best;
            best = s;
        } else if (second < 0 || fit[s] > fit[second]) {
            second = s;
        }
    }
    return fit[best] > least_fit && fit[best] > fit[second] + least_lead ? best : -1;
}

void nv_clip_check(const float *video, int32_t frames, int32_t height, int32_t width, nv_sighting *out) {
    *out = (nv_sighting){.colour = -1, .shape = -1, .motion = -1};
    nv_station stations[MAX_STATIONS];
    size_t area = (size_t)height * (size_t)width, plane = area * (size_t)frames;
    int32_t looks = frames < MAX_STATIONS ? frames : MAX_STATIONS, seen = 0;
    float rgb[3] = {0}, fit[NV_SHAPES] = {0}, coverage = 0.0f;
    for (int32_t i = 0; i < looks; i++) {
        int32_t frame = looks > 1 ? (int32_t)((int64_t)i * (frames - 1) / (looks - 1)) : 0;
        nv_spot spot;
        if (!nv_spot_find(video + (size_t)frame * area, plane, height, width, &spot)) continue;
        stations[seen++] = (nv_station){.time = (float)frame, .x = spot.x, .y = spot.y};
        coverage += spot.area;
        for (int c = 0; c < 3; c++) {
            rgb[c] += spot.rgb[c];
        }
        for (int s = 0; s < NV_SHAPES; s++) {
            fit[s] += spot.fit[s];
        }
    }
    if (seen == 0 || (float)seen < least_seen * (float)looks) return;
    for (int c = 0; c < 3; c++) {
        rgb[c] /= (float)seen;
    }
    for (int s = 0; s < NV_SHAPES; s++) {
        fit[s] /= (float)seen;
    }
    float net[2];
    out->colour = nv_name_colour(rgb);
    out->shape = nv_name_shape(fit);
    out->motion = nv_path_motion(stations, seen, net);
    out->path_x = net[0];
    out->path_y = net[1];
    out->coverage = coverage / (float)seen;
}

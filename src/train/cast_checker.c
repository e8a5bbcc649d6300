/* SPDX-License-Identifier: Apache-2.0 */
/* Follows the objects of a clip from frame to frame, and says of each what it is and does. */
#include <math.h>
#include <stddef.h>

#include "train/cast.h"
#include "train/sighting.h"

/* Frames looked at, objects told apart in one of them, and over time. */
enum { MAX_LOOKS = 64, MAX_SPOTS = 8, MAX_TRACKS = 16 };

static const float least_seen = 0.25f;    /* of the frames show an object, else it is a ghost */
static const float least_steady = 0.75f;  /* show one that does not leave */
static const float farthest_step = 0.25f; /* between two looks, in units of the frame */
static const float most_recoloured = 0.45f;
static const float edge = 0.2f;         /* where an object leaves and comes back, from the frame's edge */
static const float most_astray = 0.12f; /* how far from where it left one comes back; path and size */
static const float most_regrown = 1.5f; /* ratio of areas before and after */
static const float least_apart = 0.1f, most_slant = 0.9f; /* centres that have a relation */

typedef struct track {
    int32_t count, last; /* looks that show it; the last one of them */
    int32_t whole;       /* of count, not cut by the frame's edge */
    int32_t at[MAX_LOOKS];
    nv_spot spot[MAX_LOOKS];
    float rgb[3], fit[NV_SHAPES], area; /* means over whole spots */
} track;

typedef struct tracks {
    int32_t looks, count;
    track list[MAX_TRACKS];
} tracks;

static float length(float x, float y) {
    return sqrtf(x * x + y * y);
}

static float recoloured(const float a[3], const float b[3]) {
    float r = a[0] - b[0], g = a[1] - b[1], l = a[2] - b[2];
    return sqrtf(r * r + g * g + l * l);
}

/* How badly a spot continues a track; infinite where it cannot. */
static float cost_of(const track *t, const nv_spot *s) {
    const nv_spot *last = &t->spot[t->count - 1];
    const float step = length(s->x - last->x, s->y - last->y), colour = recoloured(s->rgb, last->rgb);
    return step > farthest_step || colour > most_recoloured ? INFINITY : step + 0.5f * colour;
}

static void append(track *t, int32_t look, const nv_spot *s) {
    t->at[t->count] = look;
    t->spot[t->count++] = *s;
    t->last = look;
}

/* The cheapest pair of a track and a spot first; spots that fit nowhere begin tracks. */
static void follow(tracks *all, int32_t look, const nv_spot *spots, int32_t count) {
    int taken[MAX_SPOTS] = {0};
    for (;;) {
        float best = INFINITY;
        int32_t which = -1, spot = -1;
        for (int32_t t = 0; t < all->count; t++) {
            for (int32_t s = 0; s < count; s++) {
                if (taken[s] || all->list[t].last == look) continue;
                const float cost = cost_of(&all->list[t], &spots[s]);
                if (cost < best) best = cost, which = t, spot = s;
            }
        }
        if (which < 0) break;
        append(&all->list[which], look, &spots[spot]);
        taken[spot] = 1;
    }
    for (int32_t s = 0; s < count; s++) {
        if (taken[s] || all->count == MAX_TRACKS) continue;
        track *fresh = &all->list[all->count++];
        fresh->count = 0;
        append(fresh, look, &spots[s]);
    }
}

/* Means over the spots that show all of it, or over all where none does. */
static void average(track *t) {
    t->whole = 0;
    t->area = 0.0f;
    for (int32_t i = 0; i < t->count; i++)
        t->whole += !t->spot[i].cut;
    const float share = 1.0f / (float)(t->whole ? t->whole : t->count);
    for (int c = 0; c < 3; c++)
        t->rgb[c] = 0.0f;
    for (int s = 0; s < NV_SHAPES; s++)
        t->fit[s] = 0.0f;
    for (int32_t i = 0; i < t->count; i++) {
        if (t->whole && t->spot[i].cut) continue;
        for (int c = 0; c < 3; c++)
            t->rgb[c] += t->spot[i].rgb[c] * share;
        for (int s = 0; s < NV_SHAPES; s++)
            t->fit[s] += t->spot[i].fit[s] * share;
        t->area += t->spot[i].area * share;
    }
}

static float from_edge(const nv_spot *s) {
    return fminf(fminf(s->x, 1.0f - s->x), fminf(s->y, 1.0f - s->y));
}

/* Out of the picture for a while in the middle, and back where it left, as large as it was. */
static int returns(const track *t, int32_t looks) {
    int32_t gap = -1;
    for (int32_t i = 1; i < t->count; i++) {
        if (t->at[i] == t->at[i - 1] + 1) continue;
        if (gap >= 0) return 0;
        gap = i;
    }
    if (gap < 0 || t->at[0] > looks / 8 || t->at[t->count - 1] < looks - 1 - looks / 8) return 0;
    const nv_spot *first = &t->spot[0], *left = &t->spot[gap - 1], *back = &t->spot[gap],
                  *last = &t->spot[t->count - 1];
    if (from_edge(left) > edge || from_edge(back) > edge) return 0;
    if (length(first->x - last->x, first->y - last->y) > most_astray) return 0;
    if (first->cut || last->cut) return 0;
    return first->area < most_regrown * last->area && last->area < most_regrown * first->area;
}

static nv_sighting name(const track *t, int32_t looks, int32_t frames) {
    nv_station stations[MAX_LOOKS];
    const float step = looks > 1 ? (float)(frames - 1) / (float)(looks - 1) : 1.0f;
    nv_sighting seen = {.colour = nv_name_colour(t->rgb), .shape = nv_name_shape(t->fit), .motion = -1};
    seen.coverage = t->area;
    for (int32_t i = 0; i < t->count; i++)
        stations[i] = (nv_station){.time = step * (float)t->at[i], .x = t->spot[i].x, .y = t->spot[i].y};
    float net[2];
    const int32_t motion = nv_path_motion(stations, t->count, net);
    seen.path_x = net[0];
    seen.path_y = net[1];
    if (returns(t, looks))
        seen.motion = NV_RETURNING;
    else if ((float)t->count >= least_steady * (float)looks)
        seen.motion = motion;
    return seen;
}

/* By mean positions in the frames that show both. */
static int32_t relate(const track *a, const track *b) {
    float dx = 0.0f, dy = 0.0f, both = 0.0f;
    for (int32_t i = 0, j = 0; i < a->count && j < b->count;) {
        if (a->at[i] == b->at[j]) {
            dx += b->spot[j].x - a->spot[i].x;
            dy += b->spot[j].y - a->spot[i].y;
            both += 1.0f;
        }
        if (a->at[i] <= b->at[j])
            i++;
        else
            j++;
    }
    if (!(both > 0.0f)) return -1;
    const float across = fabsf(dx / both), down = fabsf(dy / both);
    if (across > least_apart && down < most_slant * across) return dx > 0.0f ? NV_LEFT_OF : NV_RIGHT_OF;
    if (down > least_apart && across < most_slant * down) return dy > 0.0f ? NV_ABOVE : NV_BELOW;
    return -1;
}

void nv_cast_check(const float *video, int32_t frames, int32_t height, int32_t width, nv_cast_sighting *out) {
    tracks all = {.looks = frames < MAX_LOOKS ? frames : MAX_LOOKS};
    const track *lasting[NV_CAST_SEEN];
    const size_t area = (size_t)height * (size_t)width, plane = area * (size_t)frames;
    *out = (nv_cast_sighting){0};
    for (int32_t i = 0; i < all.looks; i++) {
        const int32_t frame = all.looks > 1 ? (int32_t)((int64_t)i * (frames - 1) / (all.looks - 1)) : 0;
        nv_spot spots[MAX_SPOTS];
        const int32_t count = nv_spot_list(video + (size_t)frame * area, plane, height, width, spots, MAX_SPOTS);
        follow(&all, i, spots, count < MAX_SPOTS ? count : MAX_SPOTS);
    }
    for (int32_t t = 0; t < all.count; t++) {
        if ((float)all.list[t].count < least_seen * (float)all.looks) continue;
        const int32_t i = out->count++;
        if (i >= NV_CAST_SEEN) continue;
        average(&all.list[t]);
        lasting[i] = &all.list[t];
        out->actor[i] = name(&all.list[t], all.looks, frames);
    }
    const int32_t told = out->count < NV_CAST_SEEN ? out->count : NV_CAST_SEEN;
    for (int32_t a = 0; a < told; a++)
        for (int32_t b = 0; b < told; b++)
            out->relation[a][b] = a == b ? -1 : relate(lasting[a], lasting[b]);
}

/* ------------------------------------------------------------------ against a wish */

static unsigned agreement(const nv_wish *wish, const nv_sighting *seen) {
    return (wish->colour < 0 || wish->colour == seen->colour ? NV_RIGHT_COLOUR : 0u) |
           (wish->shape < 0 || wish->shape == seen->shape ? NV_RIGHT_SHAPE : 0u) |
           (wish->motion < 0 || wish->motion == seen->motion ? NV_RIGHT_MOTION : 0u);
}

/* How well an object suits: its colour says most about who it is. */
static int weigh(unsigned right) {
    return (right & NV_RIGHT_COLOUR ? 3 : 0) + (right & NV_RIGHT_SHAPE ? 2 : 0) + (right & NV_RIGHT_MOTION ? 2 : 0);
}

unsigned nv_cast_compare(const nv_cast_wish *wish, const nv_cast_sighting *seen) {
    const int32_t told = seen->count < NV_CAST_SEEN ? seen->count : NV_CAST_SEEN;
    const unsigned asked = wish->count > 1 && wish->relation >= 0 ? NV_ASKED_RELATION : 0u;
    unsigned best = 0;
    int most = -1;
    /* -1: an object that is not there */
    for (int32_t a = -1; a < told; a++) {
        for (int32_t b = -1; b < (wish->count > 1 ? told : 0); b++) {
            if (a >= 0 && a == b) continue;
            unsigned first = a >= 0 ? agreement(&wish->actor[0], &seen->actor[a]) : 0u, second = first, relation = 0;
            if (wish->count > 1) second = b >= 0 ? agreement(&wish->actor[1], &seen->actor[b]) : 0u;
            if (asked && a >= 0 && b >= 0 && seen->relation[a][b] == wish->relation) relation = NV_RIGHT_RELATION;
            const int score = weigh(first) + weigh(second) + (relation != 0);
            if (score <= most) continue;
            most = score;
            best = (first & second) | relation;
        }
    }
    const unsigned count = seen->count > wish->count ? NV_SEEN_MORE : NV_SEEN_FEWER;
    return best | asked | (seen->count == wish->count ? NV_RIGHT_COUNT : count);
}

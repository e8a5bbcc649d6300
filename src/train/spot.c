/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the objects of a frame: what differs from the border's colour. Generated frames are soft, noisy and have stray
   spots, so that after a first hard mask everything is measured on the share of object in each cell. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/outline.h"
#include "train/sighting.h"

/* Larger frames are averaged down to this many cells a side: enough to tell shapes, and it quietens noise. */
enum { MAX_SIDE = 96, MAX_CELLS = MAX_SIDE * MAX_SIDE, RIM = 2, SOFTEST = 2, BINS = 256, MOST_COMPONENTS = 16 };
static const float farthest = 4.0f; /* colours in [-1, 1] are no farther apart than 3.5 */
static const float highest_level = 0.65f;
static const float least_contrast = 0.6f;                 /* object against background, pixels in [-1, 1] */
static const float least_area = 0.004f, most_area = 0.2f; /* of the frame */
static const float most_share = 1.3f;                     /* of a cell, see fit_shape */
static const float small_area = 250.0f;                   /* cells; softness does not reach the inside of others */
static const float most_strays = 0.5f;                    /* of the object's area */

typedef struct cells {
    int width, height;
    float rgb[3][MAX_CELLS];
    float back[3], front[3];   /* colours of background and object */
    float away[MAX_CELLS];     /* distance to the background's colour */
    uint8_t object[MAX_CELLS]; /* 1 in the object and a rim around it */
    float share[MAX_CELLS];    /* of the object in a cell */
} cells;

/* Cells [x0, x1) x [y0, y1). */
typedef struct window {
    int x0, y0, x1, y1;
} window;

static void scale_down(const float *frame, size_t plane, int height, int width, cells *c) {
    int longer = width > height ? width : height, step = (longer + MAX_SIDE - 1) / MAX_SIDE;
    c->width = (width + step - 1) / step;
    c->height = (height + step - 1) / step;
    for (int y = 0; y < c->height; y++) {
        for (int x = 0; x < c->width; x++) {
            int x0 = x * step, x1 = x0 + step < width ? x0 + step : width;
            int y0 = y * step, y1 = y0 + step < height ? y0 + step : height;
            for (int channel = 0; channel < 3; channel++) {
                const float *from = frame + (size_t)channel * plane;
                float sum = 0.0f;
                for (int v = y0; v < y1; v++) {
                    for (int u = x0; u < x1; u++) {
                        sum += from[(size_t)v * (size_t)width + (size_t)u];
                    }
                }
                c->rgb[channel][y * c->width + x] = sum / (float)((x1 - x0) * (y1 - y0));
            }
        }
    }
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median of the border, which an object near it hardly moves. */
static void measure_background(cells *c) {
    float border[4 * MAX_SIDE];
    for (int channel = 0; channel < 3; channel++) {
        const float *v = c->rgb[channel];
        size_t n = 0;
        for (int x = 0; x < c->width; x++) {
            border[n++] = v[x];
            border[n++] = v[(c->height - 1) * c->width + x];
        }
        for (int y = 1; y < c->height - 1; y++) {
            border[n++] = v[y * c->width];
            border[n++] = v[y * c->width + c->width - 1];
        }
        qsort(border, n, sizeof *border, by_value);
        c->back[channel] = border[n / 2];
    }
    for (int i = 0; i < c->width * c->height; i++) {
        float r = c->rgb[0][i] - c->back[0], g = c->rgb[1][i] - c->back[1], b = c->rgb[2][i] - c->back[2];
        c->away[i] = fminf(sqrtf(r * r + g * g + b * b), farthest); /* NaN counts as far */
    }
}

/* Marks the connected cells (4 neighbours) above the level from `start` on in seen[], listed in queue[]; returns how
   many. */
static int flood(const cells *c, float level, int start, uint8_t *seen, int16_t *queue) {
    int n = 0, done = 0;
    seen[start] = 1;
    queue[n++] = (int16_t)start;
    while (done < n) {
        int i = queue[done++], x = i % c->width, y = i / c->width;
        const int next[4] = {x > 0 ? i - 1 : i, x < c->width - 1 ? i + 1 : i, y > 0 ? i - c->width : i,
                             y < c->height - 1 ? i + c->width : i};
        for (int k = 0; k < 4; k++) {
            if (seen[next[k]] || !(c->away[next[k]] > level)) continue;
            seen[next[k]] = 1;
            queue[n++] = (int16_t)next[k];
        }
    }
    return n;
}

/* The level halfway to the strongest contrast, but never so high that bright specks hide a darker object; 0 if nothing
   stands out. The strongest few cells do not count. */
static float choose_level(const cells *c) {
    int bins[BINS] = {0}, n = c->width * c->height, few = (int)(least_area * (float)n), bin = BINS;
    for (int i = 0; i < n; i++) {
        int b = (int)(c->away[i] * ((float)BINS / farthest));
        bins[b < BINS ? b : BINS - 1]++;
    }
    while (bin > 0 && few >= 0) {
        few -= bins[--bin];
    }
    float contrast = (float)bin * (farthest / (float)BINS);
    return contrast > least_contrast ? fminf(0.5f * contrast, highest_level) : 0.0f;
}

/* Connected cells above a frame's level. */
typedef struct component {
    int start, size;
} component;

/* The largest components, largest first, at most `most` of them; *all gets the cells of all there are. */
static int list_components(const cells *c, float level, component *list, int most, int *all) {
    uint8_t seen[MAX_CELLS] = {0};
    int16_t queue[MAX_CELLS];
    int count = 0;
    *all = 0;
    for (int i = 0; i < c->width * c->height; i++) {
        if (seen[i] || !(c->away[i] > level)) continue;
        const component found = {.start = i, .size = flood(c, level, i, seen, queue)};
        int at = count;
        *all += found.size;
        while (at > 0 && list[at - 1].size < found.size)
            at--;
        if (at == most) continue;
        if (count < most) count++;
        memmove(list + at + 1, list + at, (size_t)(count - 1 - at) * sizeof *list);
        list[at] = found;
    }
    return count;
}

static int is_object(const cells *c, const component *o) {
    const float cell_count = (float)(c->width * c->height);
    return (float)o->size >= least_area * cell_count && (float)o->size <= most_area * cell_count;
}

/* Puts a component into c->object, and its inside's colour into c->front. */
static void mark_object(cells *c, float level, const component *o) {
    uint8_t seen[MAX_CELLS] = {0};
    int16_t queue[MAX_CELLS];
    float inside[MAX_CELLS];
    const int size = flood(c, level, o->start, seen, queue);
    memset(c->object, 0, sizeof c->object);
    for (int i = 0; i < size; i++) {
        inside[i] = c->away[queue[i]];
        c->object[queue[i]] = 1;
    }
    qsort(inside, (size_t)size, sizeof *inside, by_value);
    float sum[3] = {0}, count = 0.0f, quartile = inside[size * 3 / 4];
    for (int i = 0; i < size; i++) {
        if (c->away[queue[i]] < quartile) continue;
        for (int k = 0; k < 3; k++) {
            sum[k] += c->rgb[k][queue[i]];
        }
        count += 1.0f;
    }
    for (int k = 0; k < 3; k++) {
        c->front[k] = sum[k] / count;
    }
}

/* Whether the marked cells reach the frame's edge. */
static int32_t is_cut(const cells *c) {
    for (int x = 0; x < c->width; x++)
        if (c->object[x] || c->object[(c->height - 1) * c->width + x]) return 1;
    for (int y = 0; y < c->height; y++)
        if (c->object[y * c->width] || c->object[y * c->width + c->width - 1]) return 1;
    return 0;
}

/* Grows c->object by one cell in all eight directions. */
static void grow_object(cells *c) {
    uint8_t old[MAX_CELLS];
    memcpy(old, c->object, (size_t)(c->width * c->height));
    for (int y = 0; y < c->height; y++) {
        for (int x = 0; x < c->width; x++) {
            if (!old[y * c->width + x]) continue;
            for (int v = y > 0 ? y - 1 : 0; v <= y + 1 && v < c->height; v++) {
                for (int u = x > 0 ? x - 1 : 0; u <= x + 1 && u < c->width; u++) {
                    c->object[v * c->width + u] = 1;
                }
            }
        }
    }
}

/* Where each cell's colour lies on the way from the background's to the object's. The ends of the way are flattened, as
   noise there would add up over the rim. */
static void measure_shares(cells *c) {
    float way[3], length = 0.0f;
    const float flat = 0.12f;
    for (int k = 0; k < 3; k++) {
        way[k] = c->front[k] - c->back[k];
        length += way[k] * way[k];
    }
    for (int i = 0; i < c->width * c->height; i++) {
        float along = 0.0f;
        for (int k = 0; k < 3; k++) {
            along += way[k] * (c->rgb[k][i] - c->back[k]);
        }
        float share = (along / length - flat) / (1.0f - 2.0f * flat);
        c->share[i] = c->object[i] ? fminf(fmaxf(share, 0.0f), most_share) : 0.0f;
    }
}

/* A 3 x 3 mean over the window, zero outside it. */
static void soften(const window *w, int stride, float *cover) {
    float row[3][MAX_SIDE]; /* sums of three neighbours in the rows above, at and below */
    for (int y = w->y0; y <= w->y1; y++) {
        float *out = cover + (y - 1) * stride;
        for (int x = w->x0; x < w->x1; x++) {
            const float *at = cover + y * stride + x;
            float sum = 0.0f;
            if (y < w->y1) sum = at[0] + (x > w->x0 ? at[-1] : 0.0f) + (x < w->x1 - 1 ? at[1] : 0.0f);
            row[0][x] = y > w->y0 + 1 ? row[1][x] : 0.0f;
            row[1][x] = y > w->y0 ? row[2][x] : 0.0f;
            row[2][x] = sum;
            if (y > w->y0) out[x] = (row[0][x] + row[1][x] + row[2][x]) / 9.0f;
        }
    }
}

/* Intersection over union; gain is the template's height. */
static float overlap(const cells *c, const window *w, const float *cover, float gain) {
    float both = 0.0f, either = 0.0f;
    for (int y = w->y0; y < w->y1; y++) {
        for (int x = w->x0; x < w->x1; x++) {
            int i = y * c->width + x;
            both += fminf(c->share[i], gain * cover[i]);
            either += fmaxf(c->share[i], gain * cover[i]);
        }
    }
    return both / either;
}

/* Overlap with a shape of the same area around the same centre (cells), drawn as clips draw theirs and then softened as
   much as fits best: soft edges make small squares and stars look round beside a sharp one. Softness also takes the
   full colour from the inside of something small, so that its shares come out too high; gains make up for that. */
static float fit_shape(const cells *c, const window *w, nv_shape shape, float area, float cx, float cy) {
    static const float gains[] = {1.0f, 1.15f, 1.3f};
    float cover[MAX_CELLS], best = 0.0f;
    size_t tries = area < small_area ? sizeof gains / sizeof *gains : 1;
    for (size_t g = 0; g < tries; g++) {
        nv_outline outline = nv_outline_make(shape, nv_outline_radius(shape, area / gains[g]));
        for (int y = w->y0; y < w->y1; y++) {
            for (int x = w->x0; x < w->x1; x++) {
                cover[y * c->width + x] = nv_outline_cover(&outline, (float)x + 0.5f - cx, (float)y + 0.5f - cy);
            }
        }
        for (int i = 0; i <= SOFTEST; i++) {
            if (i > 0) soften(w, c->width, cover);
            best = fmaxf(best, overlap(c, w, cover, gains[g]));
        }
    }
    return best;
}

/* The object's cells and room around them for a template that is larger. */
static window window_of(const cells *c) {
    window w = {c->width, c->height, 0, 0};
    for (int y = 0; y < c->height; y++) {
        for (int x = 0; x < c->width; x++) {
            if (!c->object[y * c->width + x]) continue;
            if (x < w.x0) w.x0 = x;
            if (y < w.y0) w.y0 = y;
            if (x >= w.x1) w.x1 = x + 1;
            if (y >= w.y1) w.y1 = y + 1;
        }
    }
    int room = (w.x1 - w.x0 + w.y1 - w.y0) / 4;
    w.x0 = w.x0 > room ? w.x0 - room : 0;
    w.y0 = w.y0 > room ? w.y0 - room : 0;
    w.x1 = w.x1 + room < c->width ? w.x1 + room : c->width;
    w.y1 = w.y1 + room < c->height ? w.y1 + room : c->height;
    return w;
}

/* Measures a component; 0 if nothing is left of it. */
static int measure(cells *c, float level, const component *o, nv_spot *spot) {
    mark_object(c, level, o);
    const int32_t cut = is_cut(c);
    for (int i = 0; i < RIM; i++) {
        grow_object(c);
    }
    measure_shares(c);
    float area = 0.0f, x_sum = 0.0f, y_sum = 0.0f;
    for (int i = 0; i < c->width * c->height; i++) {
        area += c->share[i];
        x_sum += c->share[i] * ((float)(i % c->width) + 0.5f);
        y_sum += c->share[i] * ((float)(i / c->width) + 0.5f);
    }
    if (!(area > 0.0f)) return 0;
    float x = x_sum / area, y = y_sum / area;
    *spot = (nv_spot){.x = x / (float)c->width, .y = y / (float)c->height, .cut = cut};
    spot->area = area / (float)(c->width * c->height);
    for (int k = 0; k < 3; k++) {
        spot->rgb[k] = fminf(fmaxf(0.5f * (c->front[k] + 1.0f), 0.0f), 1.0f);
    }
    window w = window_of(c);
    for (int s = 0; s < NV_SHAPES; s++) {
        spot->fit[s] = fit_shape(c, &w, (nv_shape)s, area, x, y);
    }
    return 1;
}

int nv_spot_find(const float *frame, size_t plane, int32_t height, int32_t width, nv_spot *spot) {
    cells c;
    component largest;
    int all;
    scale_down(frame, plane, height, width, &c);
    measure_background(&c);
    const float level = choose_level(&c);
    if (!(level > 0.0f) || list_components(&c, level, &largest, 1, &all) == 0) return 0;
    if (!is_object(&c, &largest) || (float)(all - largest.size) > most_strays * (float)largest.size) return 0;
    return measure(&c, level, &largest, spot);
}

int32_t nv_spot_list(const float *frame, size_t plane, int32_t height, int32_t width, nv_spot *spots, int32_t most) {
    cells c;
    component list[MOST_COMPONENTS];
    int all, strays, count = 0;
    int32_t found = 0;
    scale_down(frame, plane, height, width, &c);
    measure_background(&c);
    const float level = choose_level(&c);
    if (!(level > 0.0f)) return 0;
    const int components = list_components(&c, level, list, MOST_COMPONENTS, &all);
    strays = all;
    while (count < components && (float)list[count].size >= least_area * (float)(c.width * c.height))
        strays -= list[count++].size;
    if (count == 0 || (float)strays > most_strays * (float)(all - strays)) return 0; /* noise */
    for (int i = 0; i < count; i++) {
        nv_spot spot;
        if (!is_object(&c, &list[i]) || !measure(&c, level, &list[i], &spot)) continue;
        if (found < most) spots[found] = spot;
        found++;
    }
    return found;
}

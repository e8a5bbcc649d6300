/* SPDX-License-Identifier: Apache-2.0 */
/* Boxes of colours, split where they vary most: Heckbert's median cut (1982) with the cut at the mean of the axis of
   greatest variance, as Wan, Wong and Prusinkiewicz (1988) advise. */
#include "media/palette.h"

#include <stdlib.h>
#include <string.h>

/* A cell that has pixels: how many, and their mean colour. */
typedef struct cell {
    double weight, mean[3];
} cell;

/* A run of cells that will share an entry. */
typedef struct box {
    size_t first, count;
    double weight, mean[3];
    double spread; /* weighted squares around the mean, along the widest axis */
    int axis;
} box;

static size_t cell_of(const uint8_t rgb[3]) {
    enum { SHIFT = 8 - NV_PALETTE_BITS };
    return ((size_t)(rgb[0] >> SHIFT) << NV_PALETTE_BITS | (size_t)(rgb[1] >> SHIFT)) << NV_PALETTE_BITS |
           (size_t)(rgb[2] >> SHIFT);
}

/* all: NV_PALETTE_CELLS of zeros; those with pixels are moved to its front. Returns how many. */
static size_t gather(const uint8_t *pixels, size_t n, cell *all) {
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        cell *c = &all[cell_of(pixels + 3 * i)];
        c->weight += 1.0;
        for (int k = 0; k < 3; k++) {
            c->mean[k] += pixels[3 * i + (size_t)k];
        }
    }
    for (size_t i = 0; i < NV_PALETTE_CELLS; i++) {
        if (all[i].weight > 0.0) all[used++] = all[i];
    }
    for (size_t i = 0; i < used; i++) {
        for (int k = 0; k < 3; k++) {
            all[i].mean[k] /= all[i].weight;
        }
    }
    return used;
}

static void measure(const cell *cells, box *b) {
    double square[3] = {0};
    b->weight = 0.0;
    memset(b->mean, 0, sizeof b->mean);
    for (size_t i = b->first; i < b->first + b->count; i++) {
        b->weight += cells[i].weight;
        for (int k = 0; k < 3; k++) {
            b->mean[k] += cells[i].weight * cells[i].mean[k];
            square[k] += cells[i].weight * cells[i].mean[k] * cells[i].mean[k];
        }
    }
    b->spread = 0.0;
    b->axis = 0;
    for (int k = 0; k < 3; k++) {
        b->mean[k] /= b->weight;
        double spread = square[k] - b->weight * b->mean[k] * b->mean[k];
        if (spread <= b->spread) continue;
        b->spread = spread;
        b->axis = k;
    }
}

/* Puts the cells below the mean in front. 0 if all are alike. */
static int split(cell *cells, box *low, box *high) {
    size_t middle = low->first, end = low->first + low->count;
    for (size_t i = low->first; i < end; i++) {
        if (cells[i].mean[low->axis] >= low->mean[low->axis]) continue;
        cell c = cells[i];
        cells[i] = cells[middle];
        cells[middle++] = c;
    }
    if (middle == low->first || middle == end) return 0;
    *high = (box){.first = middle, .count = end - middle};
    low->count = middle - low->first;
    measure(cells, low);
    measure(cells, high);
    return 1;
}

size_t nv_palette_memory(void) {
    return sizeof(nv_palette) + NV_PALETTE_CELLS * sizeof(cell);
}

int nv_palette_make(const uint8_t *pixels, size_t n, int most, nv_palette *out) {
    cell *cells = calloc(NV_PALETTE_CELLS, sizeof *cells);
    if (!cells) return 0;
    box boxes[NV_PALETTE_MOST] = {{.count = gather(pixels, n, cells)}};
    int count = boxes[0].count > 0;
    if (count) measure(cells, &boxes[0]);
    while (count > 0 && count < most) {
        int widest = 0;
        for (int i = 1; i < count; i++) {
            if (boxes[i].spread > boxes[widest].spread) widest = i;
        }
        if (boxes[widest].spread < 1e-3) break; /* rounding of equal colours */
        if (split(cells, &boxes[widest], &boxes[count]))
            count++;
        else
            boxes[widest].spread = 0.0;
    }
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 3; k++) {
            out->rgb[i][k] = (uint8_t)(boxes[i].mean[k] + 0.5);
        }
    }
    out->count = count;
    memset(out->nearest, -1, sizeof out->nearest);
    free(cells);
    return 1;
}

int nv_palette_find(nv_palette *palette, const uint8_t rgb[3]) {
    int16_t *known = &palette->nearest[cell_of(rgb)];
    if (*known >= 0) return *known;
    int best = 0, least = 4 * 256 * 256;
    for (int i = 0; i < palette->count; i++) {
        int r = rgb[0] - palette->rgb[i][0], g = rgb[1] - palette->rgb[i][1], b = rgb[2] - palette->rgb[i][2];
        int distance = r * r + g * g + b * b;
        if (distance >= least) continue;
        least = distance;
        best = i;
    }
    *known = (int16_t)best;
    return best;
}

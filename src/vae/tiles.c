/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vae/layers.h"

static int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}

int32_t nv_vae_tile_side(int32_t first, int32_t side, int32_t all) {
    return smaller(side, all - first);
}

/* Edges are as deep as tiles overlap. */
static size_t above_size(const nv_vae_tiles *t) {
    return 3 * (size_t)(t->side - t->step) * (size_t)t->side;
}

static size_t whole_size(const nv_vae_tiles *t) {
    return (size_t)t->frames * 3 * (size_t)t->height * (size_t)t->width;
}

size_t nv_vae_tiles_bytes(const nv_vae_tiles *t) {
    const size_t edges = above_size(t) * (size_t)t->frames * (size_t)(t->across + 1);
    return (whole_size(t) + edges) * sizeof(float);
}

nabla_status nv_vae_tiles_open(nv_vae_tiles *t, nv_error *err) {
    const size_t edge = above_size(t) * (size_t)t->frames;
    t->whole = malloc(whole_size(t) * sizeof(float));
    t->above = malloc(edge * (size_t)t->across * sizeof(float));
    t->before = malloc(edge * sizeof(float));
    if (t->whole && t->above && t->before) return NABLA_OK;
    nv_vae_tiles_close(t);
    return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %.1f MB of frames", (double)nv_vae_tiles_bytes(t) / 1e6);
}

void nv_vae_tiles_close(nv_vae_tiles *t) {
    free(t->whole);
    free(t->above);
    free(t->before);
    t->whole = t->above = t->before = NULL;
}

/* The edges hold the last `depth` lines (above) or columns (before) of a tile after it was blended; a tile with fewer
   has all of its own there. `have` is how many the neighbour has. */
static void blend_down(float *tile, int32_t height, int32_t width, const float *edge, int32_t have, int32_t depth) {
    const int32_t extent = smaller(smaller(have, height), depth);
    for (int32_t c = 0; c < 3; c++)
        for (int32_t y = 0; y < extent; y++) {
            const float share = (float)((double)y / (double)extent);
            float *b = tile + ((size_t)c * (size_t)height + (size_t)y) * (size_t)width;
            const float *a = edge + ((size_t)c * (size_t)have + (size_t)(have - extent + y)) * (size_t)width;
            for (int32_t x = 0; x < width; x++)
                b[x] = a[x] * (1.0f - share) + b[x] * share;
        }
}

static void blend_right(float *tile, int32_t height, int32_t width, const float *edge, int32_t have, int32_t depth) {
    const int32_t extent = smaller(smaller(have, width), depth);
    for (int32_t line = 0; line < 3 * height; line++)
        for (int32_t x = 0; x < extent; x++) {
            const float share = (float)((double)x / (double)extent);
            float *b = tile + (size_t)line * (size_t)width + x;
            *b = edge[(size_t)line * (size_t)have + (size_t)(have - extent + x)] * (1.0f - share) + *b * share;
        }
}

/* The last lines or columns of a tile, packed. */
static void keep_lower(const float *tile, int32_t height, int32_t width, int32_t have, float *edge) {
    const size_t part = (size_t)have * (size_t)width;
    for (size_t c = 0; c < 3; c++)
        memcpy(edge + c * part, tile + (c * (size_t)height + (size_t)(height - have)) * (size_t)width,
               part * sizeof *edge);
}

static void keep_right(const float *tile, int32_t height, int32_t width, int32_t have, float *edge) {
    for (size_t line = 0; line < 3 * (size_t)height; line++)
        memcpy(edge + line * (size_t)have, tile + (line + 1) * (size_t)width - have, (size_t)have * sizeof *edge);
}

void nv_vae_tiles_put(nv_vae_tiles *t, int32_t i, int32_t j, int32_t frame, float *tile) {
    const int32_t top = i * t->step, left = j * t->step, depth = t->side - t->step;
    const int32_t height = nv_vae_tile_side(top, t->side, t->height), width = nv_vae_tile_side(left, t->side, t->width);
    float *above = t->above + ((size_t)j * (size_t)t->frames + (size_t)frame) * above_size(t);
    float *before = t->before + (size_t)frame * above_size(t);
    /* A neighbour above or to the left is longer than a step, and so has a whole edge. */
    if (i > 0) blend_down(tile, height, width, above, depth, depth);
    if (j > 0) blend_right(tile, height, width, before, depth, depth);
    keep_lower(tile, height, width, smaller(height, depth), above);
    keep_right(tile, height, width, smaller(width, depth), before);
    const int32_t lines = smaller(t->step, height), columns = smaller(t->step, width);
    for (int32_t c = 0; c < 3; c++)
        for (int32_t y = 0; y < lines; y++)
            memcpy(t->whole +
                       (((size_t)frame * 3 + (size_t)c) * (size_t)t->height + (size_t)(top + y)) * (size_t)t->width +
                       left,
                   tile + ((size_t)c * (size_t)height + (size_t)y) * (size_t)width, (size_t)columns * sizeof *tile);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What Intel's manual (volume 2, LDTILECFG to TILEZERO) says of each instruction. What faults there ends the program.
 */
#include "emulated_tiles.h"

#include "attention/cpu/amx_tiles.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

typedef struct tile {
    int rows, row_bytes;
    union {
        unsigned char bytes[ROW_BYTES];
        float floats[ROW_BYTES / 4];
        uint16_t bf16[ROW_BYTES / 2];
    } row[ROWS];
} tile;

static _Thread_local tile tiles[TILES];
static _Thread_local bool configured;

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "a tile instruction would fault: %s\n", what);
    abort();
}

static tile *tile_at(int t) {
    require(configured, "no configuration is loaded");
    require(t >= 0 && t < TILES && tiles[t].rows > 0, "the tile is not configured");
    return tiles + t;
}

void emulated_configure(const void *from) {
    tile_config c;
    memcpy(&c, from, sizeof c);
    memset(tiles, 0, sizeof tiles);
    configured = c.palette != 0;
    if (!configured) return;
    require(c.palette == 1 && c.start_row < ROWS, "palette 1 and start row 0 to 15 are all there is");
    for (size_t i = 0; i < sizeof c.reserved; i++)
        require(c.reserved[i] == 0, "reserved bytes are not 0");
    for (int i = 0; i < 16; i++) {
        require(i < TILES || (c.rows[i] == 0 && c.row_bytes[i] == 0), "there are 8 tiles");
        require(c.rows[i] <= ROWS && c.row_bytes[i] <= ROW_BYTES, "a tile has 16 rows of 64 bytes at most");
        require((c.rows[i] == 0) == (c.row_bytes[i] == 0), "a tile has rows and no columns, or columns and no rows");
        if (i >= TILES) continue;
        tiles[i].rows = c.rows[i];
        tiles[i].row_bytes = c.row_bytes[i];
    }
}

void emulated_release(void) {
    memset(tiles, 0, sizeof tiles);
    configured = false;
}

void emulated_zero(int t) {
    memset(tile_at(t)->row, 0, sizeof tiles->row);
}

void emulated_load(int t, const void *base, int64_t stride) {
    tile *x = tile_at(t);
    memset(x->row, 0, sizeof x->row);
    for (int i = 0; i < x->rows; i++)
        memcpy(x->row[i].bytes, (const char *)base + i * stride, (size_t)x->row_bytes);
}

void emulated_store(int t, void *base, int64_t stride) {
    const tile *x = tile_at(t);
    for (int i = 0; i < x->rows; i++)
        memcpy((char *)base + i * stride, x->row[i].bytes, (size_t)x->row_bytes);
}

/* The arithmetic of whole tiles is too much for sanitizers to follow; what reaches memory is in load and store. */
#ifdef __clang__
#define UNCHECKED __attribute__((no_sanitize("address", "undefined", "thread")))
#else
#define UNCHECKED __attribute__((no_sanitize_address, no_sanitize_undefined, no_sanitize_thread, optimize("O3")))
#endif

UNCHECKED static inline float widen(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The sums of even and of odd elements run apart, from 0, and are joined before C is added. */
UNCHECKED static void dot(tile *c, const tile *a, const tile *b) {
    float b_even[ROWS][ROWS], b_odd[ROWS][ROWS];
    for (int k = 0; k < b->rows; k++)
        for (int n = 0; n < ROWS; n++) {
            b_even[k][n] = widen(b->row[k].bf16[2 * n]);
            b_odd[k][n] = widen(b->row[k].bf16[2 * n + 1]);
        }
    for (int m = 0; m < c->rows; m++) {
        float even[ROWS] = {0}, odd[ROWS] = {0};
        for (int k = 0; k < b->rows; k++) {
            const float a_even = widen(a->row[m].bf16[2 * k]), a_odd = widen(a->row[m].bf16[2 * k + 1]);
            for (int n = 0; n < ROWS; n++) {
                even[n] = fmaf(a_even, b_even[k][n], even[n]);
                odd[n] = fmaf(a_odd, b_odd[k][n], odd[n]);
            }
        }
        for (int n = 0; n < c->row_bytes / 4; n++)
            c->row[m].floats[n] += even[n] + odd[n];
    }
}

/* Called where the compiler cannot see it, so that no operation moves out of the mode it must run in. */
static void (*volatile const dot_unseen)(tile *, const tile *, const tile *) = dot;

void emulated_dot(int c, int a, int b) {
    const unsigned mode = _mm_getcsr(), nearest_even_without_denormals = 0x1f80 | 1u << 15 | 1u << 6;
    tile *to = tile_at(c);
    const tile *left = tile_at(a), *right = tile_at(b);
    require(c != a && c != b && a != b, "the three tiles must differ");
    require(to->rows == left->rows && to->row_bytes == right->row_bytes, "C is not as large as A times B");
    require(left->row_bytes % 4 == 0 && right->row_bytes % 4 == 0 && left->row_bytes / 4 == right->rows,
            "A's columns are not B's rows");
    _mm_setcsr(nearest_even_without_denormals);
    dot_unseen(to, left, right);
    _mm_setcsr(mode);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Few colours for many: a palette chosen for a whole clip, so that nothing flickers between frames. */
#ifndef NV_PALETTE_H
#define NV_PALETTE_H

#include <stddef.h>
#include <stdint.h>

enum { NV_PALETTE_MOST = 256, NV_PALETTE_BITS = 6, NV_PALETTE_CELLS = 1 << (3 * NV_PALETTE_BITS) };

/* Colours that agree in their upper 6 bits share a cell. */
typedef struct nv_palette {
    int count;
    uint8_t rgb[NV_PALETTE_MOST][3];
    int16_t nearest[NV_PALETTE_CELLS]; /* a cell's entry, -1 until it was asked for */
} nv_palette;

/* At most `most` colours for pixels[n][3]. 0 when there is no memory. */
int nv_palette_make(const uint8_t *pixels, size_t n, int most, nv_palette *out);
/* Bytes that a palette and making it take. */
size_t nv_palette_memory(void);
/* The entry nearest to a colour. */
int nv_palette_find(nv_palette *palette, const uint8_t rgb[3]);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "real_dot.h"

#include "attention/cpu/amx_tiles.h"

void real_dot(const void *c, const void *a, const void *b, void *out) {
    static const tile_config config = FULL_TILES;
    tile_configure(&config);
    tile_load(0, c, 64);
    tile_load(1, a, 64);
    tile_load(2, b, 64);
    tile_dot(0, 1, 2);
    tile_store(0, out, 64);
    tile_release();
}

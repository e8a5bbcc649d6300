/* SPDX-License-Identifier: Apache-2.0 */
/* In place of the instructions of src/attention/cpu/amx_tiles.h, see README.md. */
#ifndef EMULATED_TILES_H
#define EMULATED_TILES_H

#include <stdint.h>

void emulated_configure(const void *config);
void emulated_release(void);
void emulated_zero(int t);
void emulated_load(int t, const void *base, int64_t stride);
void emulated_store(int t, void *base, int64_t stride);
void emulated_dot(int c, int a, int b);

#define tile_configure(config) emulated_configure(config)
#define tile_release() emulated_release()
#define tile_zero(t) emulated_zero(t)
#define tile_load(t, base, stride) emulated_load(t, base, stride)
#define tile_load_once(t, base, stride) emulated_load(t, base, stride)
#define tile_store(t, base, stride) emulated_store(t, base, stride)
#define tile_dot(c, a, b) emulated_dot(c, a, b)

#endif

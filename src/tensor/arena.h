/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena: many arrays in one piece of memory. The same layout code runs twice: over an arena without memory it only
 * counts (nv_arena_take returns NULL), over one with memory it hands out pointers. So what is estimated is what is
 * taken.
 */
#ifndef NV_ARENA_H
#define NV_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define NV_ALIGNMENT 64 /* bytes; every array begins at a multiple */

typedef struct nv_arena {
    unsigned char *base; /* NULL: count only */
    size_t size;         /* bytes at base */
    size_t used;
    int overflow; /* a size did not fit into size_t, or more was taken than there is */
} nv_arena;

/* count elements of element_size bytes. NULL while counting, after an overflow, and for none. */
void *nv_arena_take(nv_arena *arena, int64_t count, size_t element_size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/arena.h"

void *nv_arena_take(nv_arena *arena, int64_t count, size_t element_size) {
    size_t bytes, end;
    if (arena->overflow || count <= 0) {
        arena->overflow |= count < 0;
        return NULL;
    }
    if (__builtin_mul_overflow((size_t)count, element_size, &bytes) ||
        __builtin_add_overflow(bytes, (size_t)NV_ALIGNMENT - 1, &bytes)) {
        arena->overflow = 1;
        return NULL;
    }
    bytes -= bytes % NV_ALIGNMENT;
    if (__builtin_add_overflow(arena->used, bytes, &end) || (arena->base && end > arena->size)) {
        arena->overflow = 1;
        return NULL;
    }
    void *p = arena->base ? arena->base + arena->used : NULL;
    arena->used = end;
    return p;
}

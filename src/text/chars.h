/* SPDX-License-Identifier: Apache-2.0 */
/* A growing text of code points, what the cleaner works on. */
#ifndef NV_CHARS_H
#define NV_CHARS_H

#include <stdlib.h>

#include "tensor/error.h"

/* After a failed allocation `failed` stays set and additions are dropped: asked for once, at the end. */
typedef struct nv_chars {
    uint32_t *at;
    size_t count, room;
    int failed;
} nv_chars;

static inline void nv_chars_add(nv_chars *c, uint32_t point) {
    if (c->count == c->room && !c->failed) {
        const size_t room = c->room ? 2 * c->room : 256;
        uint32_t *at = realloc(c->at, room * sizeof *at);
        if (at) {
            c->at = at;
            c->room = room;
        } else {
            c->failed = 1;
        }
    }
    if (!c->failed) c->at[c->count++] = point;
}

static inline void nv_chars_free(nv_chars *c) {
    free(c->at);
    *c = (nv_chars){0};
}

/* Adds the text of `size` bytes; where that is not UTF-8 it stops and returns the offset, else size. */
size_t nv_chars_read(nv_chars *c, const char *text, size_t size);
/* UTF-8 and a NUL, the caller's to free; NULL without memory. */
char *nv_chars_text(const nv_chars *c, size_t *size);

/* The canonical composition (NFC), by utf8proc. */
void nv_chars_compose(nv_chars *c);

#endif

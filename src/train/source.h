/* SPDX-License-Identifier: Apache-2.0 */
/* Where training clips come from. */
#ifndef NV_SOURCE_H
#define NV_SOURCE_H

#include "tensor/error.h"
#include "tensor/random.h"

enum { NV_CAPTION_SIZE = 512, NV_CAPTION_WORDS = 16 /* of most sources; a model keeps its own */ };

typedef struct nv_clip_size {
    int32_t frames, height, width;
} nv_clip_size;

/* `draw` must be callable from several threads at once, and make the same clip of the same generator state. */
typedef struct nv_source {
    void *user;
    /* video: [3, frames, height, width] in [-1, 1]; caption: NV_CAPTION_SIZE bytes */
    nabla_status (*draw)(void *user, nv_philox *g, const nv_clip_size *size, float *video, char *caption,
                         nv_error *err);
    void (*destroy)(void *user);
    /* The i-th of all captions, NULL behind the last. The callback is NULL where they are too many to list. */
    const char *(*caption)(void *user, size_t i);
    const char *const *words; /* every word of its captions, lower case */
    size_t word_count;
    const char *const *joins; /* those of the words that begin a second clause (text/words.h) */
    size_t join_count;
    int32_t caption_words; /* that a caption has room for */
} nv_source;

/* Made-up clips, held-out combinations left out: "clips" of one object (clips.h), "scenes" of one or two (cast.h).
   0: `name` is neither. */
int nv_source_named(const char *name, nv_source *out);
void nv_source_destroy(nv_source *source); /* an all-zero source is fine */

#endif

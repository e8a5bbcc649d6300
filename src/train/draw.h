/* SPDX-License-Identifier: Apache-2.0 */
/* Where every random number of a training run comes from. A number is named by (seed, purpose, step, sample), so that
   any sample of any step can be drawn on any thread, and a resumed run draws what the first one would have drawn. */
#ifndef NV_DRAW_H
#define NV_DRAW_H

#include "tensor/random.h"

typedef enum nv_draw_purpose {
    NV_DRAW_CLIP,    /* which scene or file */
    NV_DRAW_NOISE,   /* the noise added to it */
    NV_DRAW_LEVEL,   /* how much of it (one number a step, see noise.h) */
    NV_DRAW_CAPTION, /* whether the caption is dropped */
    NV_DRAW_WORDS,   /* the word table's start */
    NV_DRAW_PROMPT   /* evaluation's prompts */
} nv_draw_purpose;

/* Purpose, step and sample share the generator's 64-bit stream number. */
enum { NV_DRAW_SAMPLE_BITS = 20, NV_DRAW_STEP_BITS = 40 };

/* Those of a step's samples are neighbours: sample i's is i further than sample 0's. */
static inline uint64_t nv_draw_stream(nv_draw_purpose purpose, int64_t step, int32_t sample) {
    return (uint64_t)purpose << (NV_DRAW_SAMPLE_BITS + NV_DRAW_STEP_BITS) | (uint64_t)step << NV_DRAW_SAMPLE_BITS |
           (uint64_t)sample;
}

static inline nv_philox nv_draw(uint64_t seed, nv_draw_purpose purpose, int64_t step, int32_t sample) {
    return nv_philox_at(seed, nv_draw_stream(purpose, step, sample));
}

#endif

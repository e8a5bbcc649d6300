/* SPDX-License-Identifier: Apache-2.0 */
/* Scenes with a cast: one object or two, of different colours, that never touch; where there are two, the caption may
   say how they lie to each other. What a single object cannot ask of a model: to keep two apart, to see across the
   picture, and to remember what left it until it comes back. */
#ifndef NV_CAST_H
#define NV_CAST_H

#include "train/clips.h"

enum { NV_CAST_MOTIONS = NV_RETURNING + 1, NV_CAST_MOST = 2, NV_CAST_SEEN = 4, NV_CAST_WORDS = 24 };

/* Of the first object to the second, all the time. */
typedef enum nv_relation { NV_LEFT_OF, NV_RIGHT_OF, NV_ABOVE, NV_BELOW, NV_RELATIONS } nv_relation;

typedef struct nv_cast {
    int32_t count;
    nv_scene actor[NV_CAST_MOST]; /* the background is the first one's */
    int32_t relation;             /* an nv_relation that the caption tells, or -1: joined by "and", anywhere */
} nv_cast;

/* held_out as for nv_scene_draw, of every object; with 1, two objects always. */
void nv_cast_draw(nv_philox *g, int held_out, nv_cast *cast);
/* "a red circle moving up, left of a small blue square standing still"; returns the length as snprintf. */
int nv_cast_caption(const nv_cast *cast, char *text, size_t size);
/* video: [3, frames, height, width] in [-1, 1]. */
void nv_cast_render(const nv_cast *cast, int32_t frames, int32_t height, int32_t width, float *video);

/* Every word that a caption may hold, and those that begin what it says of the second object; static storage. */
const char *const *nv_cast_words(size_t *count);
const char *const *nv_cast_joins(size_t *count);
const char *nv_relation_name(nv_relation r);

/* What a caption asks for; -1: not named. */
typedef struct nv_cast_wish {
    int32_t count;
    nv_wish actor[NV_CAST_MOST];
    int32_t relation;
} nv_cast_wish;
void nv_cast_wish_parse(const char *caption, nv_cast_wish *wish);

/* What a clip shows: every object that is there in a quarter of its frames or more, as nv_clip_check names it.
   relation[a][b]: how a lies to b, -1 where that is not clear. count may exceed NV_CAST_SEEN, whose details are then
   the first ones'. */
typedef struct nv_cast_sighting {
    int32_t count;
    nv_sighting actor[NV_CAST_SEEN];
    int32_t relation[NV_CAST_SEEN][NV_CAST_SEEN];
} nv_cast_sighting;
void nv_cast_check(const float *video, int32_t frames, int32_t height, int32_t width, nv_cast_sighting *out);

/* What of the wish was seen, objects matched as suits it best: colour, shape and motion are right where those of all
   objects are. */
enum {
    NV_RIGHT_COLOUR = 1,
    NV_RIGHT_SHAPE = 2,
    NV_RIGHT_MOTION = 4,
    NV_RIGHT_COUNT = 8,
    NV_RIGHT_RELATION = 16,
    NV_ASKED_RELATION = 32, /* else NV_RIGHT_RELATION is not set */
    NV_SEEN_MORE = 64,      /* objects than asked for: a duplicate, say */
    NV_SEEN_FEWER = 128
};
unsigned nv_cast_compare(const nv_cast_wish *wish, const nv_cast_sighting *seen);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Procedural clips: a captioned source of short videos without end, and a checker that reads a clip back. A scene is
   one object of a colour, shape and size on a plain background, with a motion; cast.h puts several into a picture. */
#ifndef NV_CLIPS_H
#define NV_CLIPS_H

#include "tensor/error.h"
#include "tensor/random.h"

typedef enum nv_colour { NV_RED, NV_GREEN, NV_BLUE, NV_YELLOW, NV_WHITE, NV_PURPLE, NV_COLOURS } nv_colour;
typedef enum nv_shape { NV_CIRCLE, NV_SQUARE, NV_TRIANGLE, NV_STAR, NV_SHAPES } nv_shape;
typedef enum nv_motion {
    NV_LEFT,
    NV_RIGHT,
    NV_UP,
    NV_DOWN,
    NV_AROUND,
    NV_STILL,
    NV_MOTIONS,               /* of these clips; a cast's objects may also be */
    NV_RETURNING = NV_MOTIONS /* out of the picture and back the same way */
} nv_motion;
typedef enum nv_size { NV_SMALL, NV_MEDIUM, NV_LARGE, NV_SIZES } nv_size; /* medium goes unnamed in captions */
typedef enum nv_background { NV_BLACK, NV_GREY, NV_NAVY, NV_BACKGROUNDS } nv_background; /* dark, mostly unnamed */
typedef enum nv_wording { NV_MOVING, NV_GOING, NV_THAT_MOVES, NV_WORDINGS } nv_wording;  /* how a caption puts motion */

typedef struct nv_scene {
    nv_colour colour;
    nv_shape shape;
    nv_motion motion;
    nv_size size;
    nv_background background;
    nv_wording wording;
    int32_t named_background; /* whether the caption says so; it names every size but medium */
    float x, y;               /* centre in the first frame, in units of the frame's width and height */
    float angle;              /* where on its orbit an NV_AROUND begins, radians clockwise from the right */
    float travel;             /* first to last frame, in units of the frame; the radius of an NV_AROUND, the way out of
                                 an NV_RETURNING, whose angle says where to */
    float shrink;             /* share of the size that it lacks; 0 where it is alone */
    float tint[3];            /* small departures from the named colour and background */
} nv_scene;

/* A (colour, shape, motion) that training never sees, so that evaluation measures composition, not memory. About one
   in eight, spread so that every pair of the three still occurs. */
int nv_scene_held_out(nv_colour colour, nv_shape shape, nv_motion motion);

/* Draws a scene; held_out 0: only combinations of the training set, 1: only held-out ones, -1: any. */
void nv_scene_draw(nv_philox *g, int held_out, nv_scene *scene);
/* "a small red circle moving right on a grey background"; returns the length as snprintf. */
int nv_scene_caption(const nv_scene *scene, char *text, size_t size);
/* Anti-aliased, object always inside the frame. video: [3, frames, height, width] in [-1, 1]. */
void nv_scene_render(const nv_scene *scene, int32_t frames, int32_t height, int32_t width, float *video);

/* Every word that a caption may hold, lower case; *count words, static storage. */
const char *const *nv_clips_words(size_t *count);
const char *nv_colour_name(nv_colour c);
const char *nv_shape_name(nv_shape s);
const char *nv_motion_name(nv_motion m); /* "left" ... "in a circle", "still" */

/* What a caption asks for; fields it does not name are -1. Understands what nv_scene_caption writes, words in any
   order ("circle, red, to the left"). */
typedef struct nv_wish {
    int32_t colour, shape, motion, size;
} nv_wish;
void nv_wish_parse(const char *caption, nv_wish *wish);

/* Reads a clip: finds the object against the background in every frame, names its colour (mean of its pixels), shape
   (area and corners against templates, over frames) and motion (its centre's path). -1 where it cannot tell, as in an
   empty or noisy clip. Knows nothing of how the clip was made. */
typedef struct nv_sighting {
    int32_t colour, shape, motion;
    float path_x, path_y, coverage; /* net motion in units of the frame; share of the frame covered */
} nv_sighting;
void nv_clip_check(const float *video, int32_t frames, int32_t height, int32_t width, nv_sighting *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "train/source.h"

#include <string.h>

#include "train/cast.h"

static nabla_status draw_clip(void *user, nv_philox *g, const nv_clip_size *size, float *video, char *caption,
                              nv_error *err) {
    (void)user;
    (void)err;
    nv_scene scene;
    nv_scene_draw(g, 0, &scene);
    nv_scene_caption(&scene, caption, NV_CAPTION_SIZE);
    nv_scene_render(&scene, size->frames, size->height, size->width, video);
    return NABLA_OK;
}

static nabla_status draw_scene(void *user, nv_philox *g, const nv_clip_size *size, float *video, char *caption,
                               nv_error *err) {
    (void)user;
    (void)err;
    nv_cast cast;
    nv_cast_draw(g, 0, &cast);
    nv_cast_caption(&cast, caption, NV_CAPTION_SIZE);
    nv_cast_render(&cast, size->frames, size->height, size->width, video);
    return NABLA_OK;
}

static nv_source source_of_scenes(void) {
    nv_source source = {.draw = draw_scene, .caption_words = NV_CAST_WORDS};
    source.words = nv_cast_words(&source.word_count);
    source.joins = nv_cast_joins(&source.join_count);
    return source;
}

static nv_source source_of_clips(void) {
    nv_source source = {.draw = draw_clip, .caption_words = NV_CAPTION_WORDS};
    source.words = nv_clips_words(&source.word_count);
    return source;
}

int nv_source_named(const char *name, nv_source *out) {
    const int clips = strcmp(name, "clips") == 0, scenes = strcmp(name, "scenes") == 0;
    *out = clips ? source_of_clips() : scenes ? source_of_scenes() : (nv_source){0};
    return clips || scenes;
}

void nv_source_destroy(nv_source *source) {
    if (source->destroy) source->destroy(source->user);
    *source = (nv_source){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "train/source.h"

#include "train/clips.h"

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

nv_source nv_source_clips(void) {
    nv_source source = {.draw = draw_clip};
    source.words = nv_clips_words(&source.word_count);
    return source;
}

void nv_source_destroy(nv_source *source) {
    if (source->destroy) source->destroy(source->user);
    *source = (nv_source){0};
}

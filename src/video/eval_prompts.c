/* SPDX-License-Identifier: Apache-2.0 */
#include "video/eval_prompts.h"

#include <string.h>

#include "train/draw.h"

static const char *const names[] = {[NV_EVAL_CLIPS] = "clips", [NV_EVAL_SCENES] = "scenes"};

static int knows_scenes(const nv_words *words) {
    size_t count;
    const char *const *joins = nv_cast_joins(&count);
    const int32_t ids = nv_words_length(words);
    int32_t id[NV_CAST_WORDS];
    char unknown[64] = "";
    /* each alone: joined by others it may be read as part of a phrase */
    for (size_t i = 0; i < count && ids <= NV_CAST_WORDS; i++)
        nv_words_encode(words, joins[i], id, unknown, sizeof unknown);
    return ids <= NV_CAST_WORDS && !unknown[0];
}

nabla_status nv_eval_data_parse(const char *name, const nv_words *words, nv_eval_data *out, nv_error *err) {
    *out = name ? NV_EVAL_CLIPS : knows_scenes(words) ? NV_EVAL_SCENES : NV_EVAL_CLIPS;
    if (!name || strcmp(name, names[NV_EVAL_CLIPS]) == 0) return NABLA_OK;
    *out = NV_EVAL_SCENES;
    if (strcmp(name, names[NV_EVAL_SCENES]) == 0) return NABLA_OK;
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "prompts of \"%.40s\" are unknown: use \"clips\" or \"scenes\"", name);
}

const char *nv_eval_data_name(nv_eval_data data) {
    return names[data];
}

void nv_eval_prompt(nv_eval_data data, uint64_t seed, int32_t i, char *caption, nv_cast_wish *wish) {
    nv_philox g = nv_draw(seed, NV_DRAW_PROMPT, 0, i);
    if (data == NV_EVAL_SCENES) {
        nv_cast cast;
        nv_cast_draw(&g, 1, &cast);
        nv_cast_caption(&cast, caption, NV_CAPTION_SIZE);
        nv_cast_wish_parse(caption, wish);
        return;
    }
    nv_scene scene;
    nv_scene_draw(&g, 1, &scene);
    nv_scene_caption(&scene, caption, NV_CAPTION_SIZE);
    *wish = (nv_cast_wish){.count = 1, .relation = -1};
    nv_wish_parse(caption, &wish->actor[0]);
}

/* A clip of one object has its own checker, which looks for one and no more. */
uint8_t nv_eval_judge(nv_eval_data data, const nv_cast_wish *wish, const float *video, const nv_clip_size *clip) {
    nv_cast_sighting seen = {.count = 1};
    if (data == NV_EVAL_SCENES)
        nv_cast_check(video, clip->frames, clip->height, clip->width, &seen);
    else
        nv_clip_check(video, clip->frames, clip->height, clip->width, &seen.actor[0]);
    return (uint8_t)nv_cast_compare(wish, &seen);
}

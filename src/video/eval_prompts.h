/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts of an evaluation, and whether a clip is what its prompt asks for. */
#ifndef NV_EVAL_PROMPTS_H
#define NV_EVAL_PROMPTS_H

#include "text/words.h"
#include "train/cast.h"
#include "train/source.h"

typedef enum nv_eval_data { NV_EVAL_CLIPS, NV_EVAL_SCENES } nv_eval_data;

/* "clips" or "scenes"; NULL: "scenes" for a model that knows every word of theirs, else "clips". */
nabla_status nv_eval_data_parse(const char *name, const nv_words *words, nv_eval_data *out, nv_error *err);
const char *nv_eval_data_name(nv_eval_data data);

/* Prompt i of a seed: one of the held-out combinations. caption: NV_CAPTION_SIZE bytes. */
void nv_eval_prompt(nv_eval_data data, uint64_t seed, int32_t i, char *caption, nv_cast_wish *wish);
/* Bits of cast.h. */
uint8_t nv_eval_judge(nv_eval_data data, const nv_cast_wish *wish, const float *video, const nv_clip_size *clip);

#endif

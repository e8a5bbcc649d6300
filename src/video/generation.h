/* SPDX-License-Identifier: Apache-2.0 */
/* A call of nabla_generate from inside: settled (generate_settle.c), then run phase by phase (generate.c), with files
   on the way (generate_files.c). */
#ifndef NV_GENERATION_H
#define NV_GENERATION_H

#include "media/media.h"
#include "video/files.h"
#include "video/latent_file.h"
#include "video/pipeline.h"
#include "video/sample_state.h"

/* One prompt's clip. Paths are "" where that file is not wanted. */
typedef struct nv_generated {
    const char *prompt;
    uint64_t seed;
    char output[NV_PATH_SIZE], mask[NV_PATH_SIZE], preview[NV_PATH_SIZE];
    char latent[NV_PATH_SIZE]; /* asked for, or kept until it is decoded */
    char state[NV_PATH_SIZE];  /* kept up to date where it was asked for, else written where the call is cancelled */
    char comment[NV_LATENT_TEXT];
    float *x; /* [channels, frames, height, width]: noise, then the latent */
    nv_denoise_totals totals;
} nv_generated;

typedef struct nv_generation {
    const nabla_generate_options *options;
    const nabla_video_machine *machine;
    nabla_generate_result *result;
    nv_pipeline *pipeline;
    nv_st_file *resumed; /* the checkpoint to go on from, or NULL; what its settings say may be pointed to below */
    nv_sample_settings settings; /* weights: 0 until a state is read or written */
    nv_denoise_rule rule;
    nv_media_options media;
    int32_t count;
    nv_generated *clips;      /* [count] */
    int32_t sampled, written; /* of these, the first so many: their latents are in their files, their videos too */
    float *contexts;          /* [count + 1]: the prompts', the negative's */
    size_t context;           /* numbers of one */
    uint64_t texts_hash;      /* of what made them */
    size_t numbers;           /* of a latent */
    nv_denoiser *denoiser;
    nv_generated *current;
    double saved_at, save_s; /* when a checkpoint was last written, and the time that it took */
    double step_at, step_s;  /* when the last step ended, and the time that it took */
} nv_generation;

/* Opens the model, settles every option, reads the prompts, estimates and checks the memory, and fills in the result.
   Nothing large is loaded. */
nabla_status nv_generation_settle(nv_generation *g, nv_error *err);
/* Once a clip is sampled: the settings as they go into metadata. */
void nv_generation_comment(const nv_generation *g, nv_generated *clip);

/* generate_files.c */
/* The state of a run whose latent is in clip->x. */
nabla_status nv_generation_save(nv_generation *g, const nv_generated *clip, nv_error *err);
/* Before anything is loaded: whether the file to begin from, if there is one, holds noise of the latent's shape. */
nabla_status nv_generation_check_noise(const nv_generation *g, nv_error *err);
nabla_status nv_generation_noise(nv_generation *g, nv_generated *clip, nv_error *err);
nabla_status nv_generation_preview(const nv_generation *g, int32_t step, nv_error *err);
nabla_status nv_generation_latent(const nv_generation *g, const nv_generated *clip, nv_error *err);
nabla_status nv_generation_mask(const nv_generation *g, const nv_generated *clip, nv_error *err);
nabla_status nv_generation_video(nv_generation *g, const nv_generated *clip, nv_error *err);

#endif

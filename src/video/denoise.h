/* SPDX-License-Identifier: Apache-2.0 */
/* From noise to clips: the model and the solver taking turns over a batch of prompts. With guidance the batch holds
   every prompt twice, [with caption ..., with negative ...], in one forward; each entry has its own plan. */
#ifndef NV_DENOISE_H
#define NV_DENOISE_H

#include "device/repeat.h"
#include "dit/dit.h"
#include "sample/sampler.h"
#include "train/flow.h"
#include "train/source.h"

typedef struct nv_denoise_rule {
    int32_t prompts;
    nv_clip_size clip;  /* in pixels, as it was asked for */
    nv_dit_shape shape; /* of its latent; batch does not matter */
    nv_prediction prediction;
    nabla_policy policy;
    int32_t dense_steps; /* first steps with dense attention */
    const char *solver;
    int32_t steps;
    float guidance, shift;
    nv_replay replay; /* of steps that are alike, on a GPU */
} nv_denoise_rule;

/* Ranges of its numbers, which nv_denoiser_create takes for granted. */
nabla_status nv_denoise_check(const nv_denoise_rule *rule, nv_error *err);

/* What a model and sampling with it (needs->run) will take, without making either. */
nabla_status nv_denoise_memory(nv_device *device, const nv_dit_config *config, nabla_dtype compute, nv_dit_use use,
                               const nv_denoise_rule *rule, nv_dit_needs *needs, nv_error *err);

typedef struct nv_denoiser nv_denoiser;

nabla_status nv_denoiser_create(nv_device *device, nv_dit *dit, const nv_denoise_rule *rule, nv_denoiser **out,
                                nv_error *err);
void nv_denoiser_destroy(nv_denoiser *d);
size_t nv_denoiser_latent(const nv_denoiser *d); /* numbers of one latent */

/* The solver, whose history a run that is taken up again needs back. */
nv_sampler *nv_denoiser_sampler(const nv_denoiser *d);

typedef struct nv_denoise_watch {
    /* After each step: `done` of rule.steps. Returns NABLA_OK to go on. May be NULL. */
    nabla_status (*step)(void *user, int32_t done, nv_error *err);
    /* Within a step, before each layer, and before a step that is replayed: non-zero ends the run with NABLA_CANCELLED,
       x, totals and history being as the last step left them. May be NULL. */
    nv_dit_stop layer;
    void *user;
} nv_denoise_watch;

typedef struct nv_denoise_totals {
    int32_t steps;  /* done */
    double density; /* of these steps, as shares of the mean over rule.steps */
    double plan_s, attention_s, products_s, weights_s;
} nv_denoise_totals;

/* contexts: [prompts, text_length, text_dim]; negative: [text_length, text_dim], not read without guidance; x: noise
   in, latents out, [prompts, C, F, H, W]. watch may be NULL. totals: all zero in for a run that begins; that of a run
   taken up, with x and the solver's history as they were, makes it go on. A step that leaves NaN or infinity in x is
   the last: NABLA_INTERNAL, and watch does not see it; x is then undefined. */
nabla_status nv_denoise(nv_denoiser *d, const float *contexts, const float *negative, float *x,
                        const nv_denoise_watch *watch, nv_denoise_totals *totals, nv_error *err);
/* To watch's step, from the device, [prompts, C, F, H, W]: the latents as the step left them, and clean, as the model
   saw them in it. */
nabla_status nv_denoiser_read(nv_denoiser *d, float *x, nv_error *err);
nabla_status nv_denoiser_read_clean(nv_denoiser *d, float *clean, nv_error *err);
const nv_dit_run *nv_denoiser_run(const nv_denoiser *d);
const nv_dit_stats *nv_denoiser_stats(const nv_denoiser *d); /* of the last step */
int32_t nv_denoiser_entries(const nv_denoiser *d);           /* of the model's batch: prompts, or twice as many */

#endif

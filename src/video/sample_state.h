/* SPDX-License-Identifier: Apache-2.0 */
/* A sampling run between two of its steps, in a file that it can be taken up from to the same bits: tensors "latent"
   fp32 [C, F, H, W] and, for solvers that remember something, "history" fp32 [latents, C, F, H, W]; in the metadata the
   steps done, the density so far, every setting on which the bits depend, the machine and its choices. Written
   atomically: the state before stays until the new one is whole. */
#ifndef NV_SAMPLE_STATE_H
#define NV_SAMPLE_STATE_H

#include "device/origin.h"
#include "video/denoise.h"
#include "weights/config.h"
#include "weights/safetensors.h"

/* What a run must share with the one that it takes up, beside its rule. Texts are UTF-8. */
typedef struct nv_sample_settings {
    const nv_denoise_rule *rule;
    const char *prompt, *negative;
    const char *policy; /* as nabla_policy_format writes it */
    const char *noise;  /* the file that it began from; "": the seed's */
    const char *dtype;
    uint64_t seed, weights; /* weights: of the transformer and the texts' encoder, once they are there */
} nv_sample_settings;

/* What a state holds of a run: the latent, and what its solver remembers (nv_sampler_history). */
typedef struct nv_sample_tensors {
    int32_t channels, latents;
    float *x, *history; /* [channels, F, H, W] of the rule's shape, [latents] of them */
} nv_sample_tensors;

nabla_status nv_sample_state_write(const char *path, const nv_sample_settings *settings, const nv_sample_tensors *t,
                                   const nv_denoise_totals *totals, nv_device *device, nv_error *err);

/* Fails where a run that begins would replace one that stopped in its middle. */
nabla_status nv_sample_state_check_place(const char *path, nv_error *err);

/* Fails on a file that is no such state. Its metadata have the texts of nv_sample_settings under their names. */
nabla_status nv_sample_state_open(const char *path, nv_st_file **out, nv_error *err);
/* The device that the run goes on on, before any of its work. note: as nv_origin_go_on says it. */
nabla_status nv_sample_state_go_on(const nv_st_file *file, const char *path, nv_device *device,
                                   char note[NV_ORIGIN_NOTE], nv_error *err);
/* What the run was told, in place of the model's own defaults. */
void nv_sample_state_defaults(const nv_st_file *file, nv_model_index *index, int32_t *dense_steps);
/* Fails, naming the first setting that differs from the file's; the weights are left to nv_sample_state_read. */
nabla_status nv_sample_state_check(const nv_st_file *file, const char *path, const nv_sample_settings *settings,
                                   nv_error *err);
/* Into the tensors and totals. Fails as the above, and on other weights. */
nabla_status nv_sample_state_read(const nv_st_file *file, const char *path, const nv_sample_settings *settings,
                                  const nv_sample_tensors *t, nv_denoise_totals *totals, nv_error *err);

#endif

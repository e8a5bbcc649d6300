/* SPDX-License-Identifier: Apache-2.0 */
/* What a training run holds; shared by train.c (the loop), trainer.c (making it), train_step.c and settings.c. */
#ifndef NV_TRAINER_H
#define NV_TRAINER_H

#include <pthread.h>

#include "train/checkpoint.h"
#include "train/log.h"
#include "train/loss.h"
#include "train/noise.h"
#include "train/schedule.h"
#include "video/model.h"

enum { NV_SETTINGS_SIZE = 8192, NV_CAPTION_WORDS = 16 /* words a caption has room for */ };

typedef struct nv_trainer {
    const nabla_train_options *options;
    nv_clip_model model;
    nv_source source;
    nv_optimizer *optimizer;
    nv_dit_run *run;
    nv_log *log;
    nv_checkpoint state;
    double earlier_s; /* seconds of earlier sessions */

    nv_clip_size clip;
    size_t values; /* numbers of a clip */
    nabla_policy policy;
    nv_noise_rule levels;
    nv_weighting weighting;
    nv_schedule schedule;
    char warning[512];               /* captions that the model reads in part, a machine that changed; "" if none */
    char settings[NV_SETTINGS_SIZE]; /* see nv_checkpoint_write */

    /* The batch on the host, from when it is drawn until it is uploaded. Beside a GPU the next one is drawn while that
       works. */
    float *x, *target;            /* [batch, values] noisy clips, what the model should say */
    float *sigma, *time, *weight; /* [batch] */
    int32_t *ids;                 /* [batch, NV_CAPTION_WORDS] */
    nv_error *errors;             /* [batch] */
    pthread_t drawer;             /* where drawing */
    int32_t drawing;
    int64_t drawn; /* the step that the batch on the host is of, or will be; -1: none */

    /* The batch on the device. output: the model's, then its gradient. */
    float *latent, *output, *device_target, *device_time, *device_weight, *context, *d_context;
    int32_t *device_ids;
} nv_trainer;

/* Everything that can be wrong with the options is found here, before anything is written. */
nabla_status nv_trainer_open(const nabla_train_options *options, const nabla_video_machine *machine, nv_trainer *t,
                             nv_error *err);
void nv_trainer_close(nv_trainer *t);
/* The model as others use it, then the state: a run that has a state can be resumed, since the configuration and words
   that resuming reads are there too, and each file is replaced as a whole. */
nabla_status nv_trainer_save(nv_trainer *t, nv_error *err);

/* One step: draws the batch, forward, loss, backward, update. */
typedef struct nv_step_result {
    double loss, grad_norm, density;
    double model_s; /* seconds of forward and backward ... */
    double flop;    /* ... and their products and attention */
} nv_step_result;
/* Waits for a batch that is being drawn. */
void nv_trainer_join(nv_trainer *t);
nabla_status nv_trainer_step(nv_trainer *t, nv_step_result *result, nv_error *err);

/* Ranges of every option that stands alone. */
nabla_status nv_settings_check(const nabla_train_options *o, nv_error *err);
/* The settings that a resumed run must share, one "key=value" a line. */
nabla_status nv_settings_format(const nabla_train_options *o, nabla_dtype compute, char text[NV_SETTINGS_SIZE],
                                nv_error *err);

#endif

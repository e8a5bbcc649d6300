/* SPDX-License-Identifier: Apache-2.0 */
/* What a training run holds; shared by train.c (the loop), trainer.c (making it), train_step.c and settings.c. */
#ifndef NV_TRAINER_H
#define NV_TRAINER_H

#include "device/repeat.h"
#include "train/checkpoint.h"
#include "train/log.h"
#include "train/loss.h"
#include "train/noise.h"
#include "train/schedule.h"
#include "video/model.h"
#include "video/teacher.h"
#include "video/train_batch.h"

enum { NV_SETTINGS_SIZE = 8192, NV_FIGURES = 2 /* loss, squared norm of the gradient */ };

typedef struct nv_trainer {
    const nabla_train_options *options;
    const nabla_video_machine *machine;
    nv_clip_model model;
    nv_teacher teacher; /* all zero without one */
    nv_source source;
    nv_optimizer *optimizer;
    nv_dit_run *run;
    nv_log *log;
    nv_checkpoint state;
    int32_t rounds;   /* of the step under way, done; they are in the gradients alone */
    double earlier_s; /* seconds of earlier sessions */

    nv_clip_size clip;
    size_t values; /* numbers of a clip */
    nabla_policy policy;
    nv_noise_rule levels;
    nv_weighting weighting;
    nv_schedule schedule;
    char warning[512];               /* captions that the model reads in part, a machine that changed; "" if none */
    char settings[NV_SETTINGS_SIZE]; /* see nv_checkpoint_write */

    nv_batches batches;
    /* On the device. latent: the batch with noise; output: the model's, then its gradient. */
    float *latent, *output, *context, *d_context;
    double *figures;  /* [NV_FIGURES] */
    uint64_t *stream; /* of the first clip's noise */

    /* A round's work by the slot that its batch lies in, and by whether it ends a step: each recorded on its own, since
       what is recorded stays at its places in memory. */
    int32_t slot;
    nv_repeat repeats[NV_BATCH_SLOTS][2];
} nv_trainer;

/* Everything that can be wrong with the options is found here, before anything is written. */
nabla_status nv_trainer_open(const nabla_train_options *options, const nabla_video_machine *machine, nv_trainer *t,
                             nv_error *err);
void nv_trainer_close(nv_trainer *t);
/* The model as others use it, then the state: a run that has a state can be resumed, since the configuration and words
   that resuming reads are there too, and each file is replaced as a whole. */
nabla_status nv_trainer_save(nv_trainer *t, nv_error *err);

typedef struct nv_step_result {
    double loss, grad_norm, density;
    double data_s;  /* seconds in which the step waited for its batches, */
    double model_s; /* of the device from the forward passes to the update, */
    double flop;    /* and the products and attention of that time */
} nv_step_result;
/* One round: a batch, forward, loss, backward. A step is options->accumulate of them, and the last also updates the
   model; t->rounds is then 0 again, and result, which the rounds of a step share, that of the step. */
nabla_status nv_trainer_round(nv_trainer *t, nv_step_result *result, nv_error *err);

/* Ranges of every option that stands alone. */
nabla_status nv_settings_check(const nabla_train_options *o, nv_error *err);
/* The settings that a resumed run must share, one "key=value" a line. */
nabla_status nv_settings_format(const nabla_train_options *o, nabla_dtype compute, char text[NV_SETTINGS_SIZE],
                                nv_error *err);

#endif

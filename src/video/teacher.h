/* SPDX-License-Identifier: Apache-2.0 */
/* Distillation (arXiv 2507.13546, appendix A): a model with full attention, whose output at the same clip, noise and
   caption is what a sparse student learns. It only runs forward, on the student's device. */
#ifndef NV_TEACHER_H
#define NV_TEACHER_H

#include "video/model.h"

typedef struct nv_teacher {
    nv_clip_model model;
    nv_dit_shape shape;
    nv_dit_run *run;
    nabla_policy dense;
    float *context, *answer; /* on the device: [batch, words, text_dim], [batch, 3, F, H, W] */
} nv_teacher;

/* Loads it; the student, which must know the same words and predict the same, is closed after it. On failure it is
   closed already. */
nabla_status nv_teacher_open(const char *folder, const nabla_video_machine *machine, nv_clip_model *student,
                             int32_t batch, const nv_clip_size *clip, nv_teacher *t, nv_error *err);
/* Adds the bytes that nv_teacher_start will take of the device. */
nabla_status nv_teacher_memory(const nv_teacher *t, size_t *bytes, nv_error *err);
nabla_status nv_teacher_start(nv_teacher *t, nv_error *err);
/* Queues its answer to a batch, all in the device's memory: latent with noise [batch, 3, F, H, W], time [batch], ids
   [batch, words]. */
nabla_status nv_teacher_answer(nv_teacher *t, const float *latent, const float *time, const int32_t *ids,
                               nv_error *err);
void nv_teacher_close(nv_teacher *t); /* an all-zero teacher is fine */

#endif

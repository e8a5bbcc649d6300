/* SPDX-License-Identifier: Apache-2.0 */
/* What changes with the step: learning rate and the EMA's decay. */
#ifndef NV_SCHEDULE_H
#define NV_SCHEDULE_H

#include <stdint.h>

typedef struct nv_schedule {
    double lr;
    int64_t warmup; /* steps of linear rise from lr / warmup to lr */
    int64_t steps;  /* in all; the cosine's end */
    double final;   /* the cosine ends at lr * final */
} nv_schedule;

/* For the update that makes step + 1 steps of step; step in [0, steps). */
double nv_schedule_lr(const nv_schedule *s, int64_t step);
/* min(decay, (1 + step) / (10 + step)): the average forgets the random start quickly. */
double nv_schedule_ema(double decay, int64_t step);

#endif

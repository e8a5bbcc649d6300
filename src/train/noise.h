/* SPDX-License-Identifier: Apache-2.0 */
/* How much noise a training sample gets. */
#ifndef NV_NOISE_H
#define NV_NOISE_H

#include "tensor/error.h"

typedef enum nv_noise_kind {
    NV_NOISE_UNIFORM,
    NV_NOISE_LOGIT_NORMAL /* sigma = sigmoid(z), z ~ N(0, 1): the middle more often (Esser et al. 2024) */
} nv_noise_kind;

typedef struct nv_noise_rule {
    nv_noise_kind kind;
    float shift; /* sigma' = shift sigma / (1 + (shift - 1) sigma), the samplers' formula; above 1: more noise */
} nv_noise_rule;

/* "uniform" or "logit-normal". */
nabla_status nv_noise_parse(const char *text, nv_noise_kind *out, nv_error *err);

/* The levels of a step's samples, stratified: one uniform number u of the step places sample i at the quantile
   frac(u + i / batch), so that every batch covers the range evenly and the loss's variance falls. u in [0, 1). */
float nv_noise_level(const nv_noise_rule *rule, float u, int32_t sample, int32_t batch);

#endif

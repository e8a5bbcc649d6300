/* SPDX-License-Identifier: Apache-2.0 */
/* Weighted mean squared error of a batch, and its gradient. */
#ifndef NV_LOSS_H
#define NV_LOSS_H

#include "train/flow.h"

/* How much a sample counts, by its noise level. */
typedef enum nv_weighting {
    NV_WEIGHT_PLAIN,   /* all the same */
    NV_WEIGHT_VELOCITY /* of "sample" predictions: as if the error were the velocity's, 1 / max(sigma, 0.2)^2, scaled to
                          a mean of 1 over uniform levels */
} nv_weighting;

/* "plain" or "velocity". */
nabla_status nv_weighting_parse(const char *text, nv_weighting *out, nv_error *err);
float nv_loss_weight(nv_weighting weighting, nv_prediction prediction, float sigma);

#endif

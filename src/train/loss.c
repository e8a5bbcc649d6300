/* SPDX-License-Identifier: Apache-2.0 */
#include "train/loss.h"

#include <string.h>

nabla_status nv_weighting_parse(const char *text, nv_weighting *out, nv_error *err) {
    *out = strcmp(text, "velocity") == 0 ? NV_WEIGHT_VELOCITY : NV_WEIGHT_PLAIN;
    if (*out == NV_WEIGHT_VELOCITY || strcmp(text, "plain") == 0) return NABLA_OK;
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "loss weighting \"%.40s\" is unknown: use \"plain\" or \"velocity\"",
                   text);
}

float nv_loss_weight(nv_weighting weighting, nv_prediction prediction, float sigma) {
    if (weighting == NV_WEIGHT_PLAIN || prediction == NV_PREDICT_VELOCITY) return 1.0f;
    const float floor_sigma = 0.2f;
    /* integral over [0, 1] of 1 / max(s, f)^2 = 2 / f - 1 */
    const float mean = 2.0f / floor_sigma - 1.0f;
    float s = sigma > floor_sigma ? sigma : floor_sigma;
    return 1.0f / (s * s * mean);
}

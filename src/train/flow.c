/* SPDX-License-Identifier: Apache-2.0 */
#include "train/flow.h"

#include <string.h>

nabla_status nv_prediction_parse(const char *text, nv_prediction *out, nv_error *err) {
    for (int p = NV_PREDICT_SAMPLE; p <= NV_PREDICT_VELOCITY; p++) {
        *out = (nv_prediction)p;
        if (strcmp(text, nv_prediction_name(*out)) == 0) return NABLA_OK;
    }
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "prediction \"%.40s\" is unknown: use \"sample\" or \"velocity\"",
                   text);
}

const char *nv_prediction_name(nv_prediction prediction) {
    return prediction == NV_PREDICT_SAMPLE ? "sample" : "velocity";
}

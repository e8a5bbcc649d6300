/* SPDX-License-Identifier: Apache-2.0 */
/* Flow matching (Lipman et al. 2022; Liu et al. 2022): x_sigma = (1 - sigma) x0 + sigma n runs from the clean clip x0
   to noise n; the velocity is n - x0. A model predicts the velocity, or x0 itself ("sample"), which small models of
   pixels learn far sooner: the clip lies on a low-dimensional manifold, noise does not. */
#ifndef NV_FLOW_H
#define NV_FLOW_H

#include <stddef.h>

#include "tensor/error.h"

typedef enum nv_prediction { NV_PREDICT_SAMPLE, NV_PREDICT_VELOCITY } nv_prediction;

/* "sample" or "velocity". */
nabla_status nv_prediction_parse(const char *text, nv_prediction *out, nv_error *err);
const char *nv_prediction_name(nv_prediction prediction);

#endif

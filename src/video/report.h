/* SPDX-License-Identifier: Apache-2.0 */
/* The seam between the engine's errors and the public ones. */
#ifndef NV_REPORT_H
#define NV_REPORT_H

#include <stdio.h>

#include "nabla/video.h"
#include "tensor/error.h"

/* Copies the sentence of a failure out, "" for success, and returns the status. out may be NULL. */
static inline nabla_status nv_report(nabla_video_error *out, nabla_status status, const nv_error *err) {
    if (!out) return status;
    out->status = status;
    snprintf(out->text, sizeof out->text, "%s", status == NABLA_OK ? "" : err->text);
    return status;
}

/* For a struct whose `size` is not this library's. */
static inline nabla_status nv_report_version(nabla_video_error *out, const char *type) {
    nv_error err;
    nabla_status status =
        nv_fail(&err, NABLA_INVALID_ARGUMENT,
                "%s.size is not this library's: begin with %s_default(), of the same version", type, type);
    return nv_report(out, status, &err);
}

/* The same for a struct that a call fills. */
static inline nabla_status nv_report_result_version(nabla_video_error *out, const char *type) {
    nv_error err;
    nabla_status status =
        nv_fail(&err, NABLA_INVALID_ARGUMENT,
                "%s.size is not this library's: begin with {.size = sizeof(%s)}, of the same version", type, type);
    return nv_report(out, status, &err);
}

/* 1 - density, without the rounding of means that shows dense attention as 2e-16 or -0. */
static inline double nv_sparsity(double density) {
    double sparsity = 1.0 - density;
    return sparsity > 1e-9 ? sparsity : 0.0;
}

#endif

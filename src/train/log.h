/* SPDX-License-Identifier: Apache-2.0 */
/* log.csv: one row an interval of steps. Rows past a checkpoint are cut when a run continues from it. */
#ifndef NV_LOG_H
#define NV_LOG_H

#include "tensor/error.h"

typedef struct nv_log_row {
    int64_t step;                                 /* steps done */
    double loss, grad_norm, lr;                   /* mean of the interval; the last step's */
    double samples_per_second, sparsity, seconds; /* seconds since the run began, earlier sessions included */
    double data_share;                            /* of the interval's time, waiting for clips */
} nv_log_row;

typedef struct nv_log nv_log;

/* Opens for appending. Keeps the whole rows of an existing file whose step is <= keep (in order) and drops what
   follows; keep < 0 begins anew. *seconds becomes the last kept row's, else 0. */
nabla_status nv_log_open(const char *path, int64_t keep, double *seconds, nv_log **out, nv_error *err);
nabla_status nv_log_add(nv_log *log, const nv_log_row *row, nv_error *err);
void nv_log_close(nv_log *log);

#endif

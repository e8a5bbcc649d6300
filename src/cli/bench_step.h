/* SPDX-License-Identifier: Apache-2.0 */
/* One training step of a transformer as `nabla train` takes it: forward, loss, backward, AdamW with clipping and
   averaged weights, and the copy that products read. */
#ifndef CLI_BENCH_STEP_H
#define CLI_BENCH_STEP_H

#include "dit/dit.h"
#include "train/optimizer.h"

typedef struct cli_bench_step {
    nv_device *device;
    nv_dit *model;
    nv_dit_run *run;
    nv_optimizer *optimizer;
    int32_t batch;
    int64_t values;         /* of a sample's output */
    float *target, *weight; /* the device's: [batch, values], [batch] */
    float *d_context;       /* as nv_dit_backward writes it */
    double *figures;        /* [2], the device's: the loss, the gradient's squared norm */
    int64_t done;
} cli_bench_step;

/* What the optimizer holds for a model of so many numbers. */
size_t cli_bench_step_memory(size_t values);
/* s: all but optimizer, weight, figures and done is set. */
nabla_status cli_bench_step_open(cli_bench_step *s, nv_error *err);
void cli_bench_step_close(cli_bench_step *s); /* an all-zero one is fine */
/* Leaves the output's gradient in `out`; waits until all is done. */
nabla_status cli_bench_step_take(cli_bench_step *s, const nv_dit_inputs *in, float *out, nv_error *err);

#endif

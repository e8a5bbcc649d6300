/* SPDX-License-Identifier: Apache-2.0 */
/* state.safetensors: all that a run needs to continue bit for bit. Under each trainable's name: "master.NAME",
   "moment1.NAME", "moment2.NAME", "ema.NAME", fp32; the rest in the metadata, the machine and its choices
   too (device/origin.h). No clock time in it, so that equal runs on a CPU make equal files. Written atomically: the
   previous state stays until the new one is whole. */
#ifndef NV_CHECKPOINT_H
#define NV_CHECKPOINT_H

#include "device/origin.h"
#include "train/optimizer.h"

typedef struct nv_checkpoint {
    int64_t step;                           /* steps done */
    double interval_loss, interval_density; /* sums since the last row of the log */
    int64_t interval_steps;
} nv_checkpoint;

/* Host memory that writing takes, for trainables of so many values in all. */
size_t nv_checkpoint_memory(size_t values);
/* options: the run's settings as lines of "key=value", those that a continued run must share. */
nabla_status nv_checkpoint_write(const char *path, nv_optimizer *optimizer, const nv_checkpoint *state,
                                 const char *options, nv_error *err);
/* Fails, naming the first setting that differs, when the file was made with other options. note: as nv_origin_go_on
   says it. */
nabla_status nv_checkpoint_read(const char *path, nv_optimizer *optimizer, nv_checkpoint *state, const char *options,
                                char note[NV_ORIGIN_NOTE], nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The batches of a training run, from when they are drawn on the host until the device has used them. A step takes one
   a round (nabla_train_options.accumulate); rounds count on from step to step. Beside a GPU two are under way: while
   round r runs there, the batch of r + 1 is copied to it and the host draws that of r + 2, so that a round waits for
   nothing. Only clean clips travel; noise is made on the device. */
#ifndef NV_TRAIN_BATCH_H
#define NV_TRAIN_BATCH_H

#include <pthread.h>

#include "device/device.h"

enum { NV_BATCH_SLOTS = 2 };

struct nv_trainer;

/* One batch, on either side. */
typedef struct nv_batch {
    float *clean;                 /* [batch, values] clips */
    float *sigma, *time, *weight; /* [batch] */
    int32_t *ids;                 /* [batch, words of a caption] */
} nv_batch;

typedef struct nv_batches {
    int32_t slots; /* the batch of a round lies in slot round % slots */
    size_t bytes;  /* of one */
    nv_batch host[NV_BATCH_SLOTS], device[NV_BATCH_SLOTS];
    int64_t drawn[NV_BATCH_SLOTS], sent[NV_BATCH_SLOTS]; /* the round whose batch is there or under way; -1: none */
    nv_error *errors;                                    /* [slots, batch] of drawing */
    pthread_t drawer;                                    /* where drawing */
    int32_t drawing;
    int64_t next; /* the round that it draws for */
} nv_batches;

/* Bytes of a batch. */
nabla_status nv_batch_bytes(const struct nv_trainer *t, size_t *bytes, nv_error *err);
/* How many of them each side holds. */
int32_t nv_batch_slots(const struct nv_trainer *t);
nabla_status nv_batches_open(struct nv_trainer *t, nv_error *err);
void nv_batches_close(struct nv_trainer *t);

/* The batch of the round that the run is at, for what is queued from here on: in which slot the device has it. Sends
   the one after it on its way. */
nabla_status nv_batches_take(struct nv_trainer *t, int32_t *slot, nv_error *err);
/* Once the round is queued: begins to draw. */
void nv_batches_ahead(struct nv_trainer *t);

#endif

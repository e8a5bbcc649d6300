/* SPDX-License-Identifier: Apache-2.0 */
/* All random numbers come from streams named by (seed, step, sample), so that a batch's bits depend on the step and
   its place in it and nothing else: a step draws the same clips in one round of many as in many rounds of few. */
#include "video/train_batch.h"

#include <stdlib.h>
#include <string.h>

#include "train/draw.h"
#include "video/files.h"
#include "video/profile.h"
#include "video/trainer.h"

/* ------------------------------------------------------------------ memory */

/* Clips, then what is a number or a caption a sample: one run, so that one copy takes it. */
nabla_status nv_batch_bytes(const nv_trainer *t, size_t *bytes, nv_error *err) {
    *bytes = 0;
    NV_TRY(nv_memory_add(bytes, sizeof(float), t->options->batch, (int64_t)t->values, 1, 1, err));
    return nv_memory_add(bytes, sizeof(float), t->options->batch, 3 + nv_words_length(t->model.words), 1, 1, err);
}

static nv_batch parts_of(const nv_trainer *t, void *memory) {
    const size_t batch = (size_t)t->options->batch;
    nv_batch b = {.clean = memory};
    b.sigma = b.clean + batch * t->values;
    b.time = b.sigma + batch;
    b.weight = b.time + batch;
    b.ids = (int32_t *)(void *)(b.weight + batch);
    return b;
}

int32_t nv_batch_slots(const nv_trainer *t) {
    return strcmp(t->model.device->kind, "cuda") == 0 ? NV_BATCH_SLOTS : 1;
}

nabla_status nv_batches_open(nv_trainer *t, nv_error *err) {
    nv_batches *b = &t->batches;
    nv_device *device = t->model.device;
    NV_TRY(nv_batch_bytes(t, &b->bytes, err));
    b->slots = nv_batch_slots(t);
    for (int32_t i = 0; i < b->slots; i++) {
        void *host, *there;
        NV_TRY(device->ops->host_allocate(device, b->bytes, &host, err));
        b->host[i] = parts_of(t, host);
        NV_TRY(device->ops->allocate(device, b->bytes, &there, err));
        b->device[i] = parts_of(t, there);
        b->drawn[i] = b->sent[i] = -1;
    }
    b->errors = calloc((size_t)b->slots * (size_t)t->options->batch, sizeof *b->errors);
    if (!b->errors) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a batch of %d clips", t->options->batch);
    return NABLA_OK;
}

/* Waits for a batch that is being drawn. */
static void join(nv_batches *b) {
    if (b->drawing) pthread_join(b->drawer, NULL);
    b->drawing = 0;
}

void nv_batches_close(nv_trainer *t) {
    nv_batches *b = &t->batches;
    nv_device *device = t->model.device;
    join(b);
    for (int32_t i = 0; i < NV_BATCH_SLOTS && device; i++) {
        device->ops->host_release(device, b->host[i].clean);
        device->ops->release(device, b->device[i].clean);
    }
    free(b->errors);
}

/* ------------------------------------------------------------------ drawing */

/* The i-th of a batch: clip, caption, noise level. sample: its number in the step. */
static nabla_status draw_sample(nv_trainer *t, nv_batch *b, int32_t i, int64_t step, int32_t sample, float level,
                                nv_error *err) {
    const nabla_train_options *o = t->options;
    char caption[NV_CAPTION_SIZE];
    nv_philox clip = nv_draw(o->seed, NV_DRAW_CLIP, step, sample);
    nv_philox drop = nv_draw(o->seed, NV_DRAW_CAPTION, step, sample);
    NV_TRY(t->source.draw(t->source.user, &clip, &t->clip, b->clean + (size_t)i * t->values, caption, err));
    if (nv_philox_uniform(&drop) < o->caption_dropout) caption[0] = '\0';
    nv_words_encode(t->model.words, caption, b->ids + (size_t)i * (size_t)nv_words_length(t->model.words), NULL, 0);
    b->sigma[i] = nv_noise_level(&t->levels, level, sample, o->batch * o->accumulate);
    b->time[i] = 1000.0f * b->sigma[i];
    b->weight[i] = nv_loss_weight(t->weighting, t->model.prediction, b->sigma[i]);
    return NABLA_OK;
}

static nv_error *errors_of(nv_trainer *t, int64_t round) {
    return t->batches.errors + round % t->batches.slots * t->options->batch;
}

static void draw(nv_trainer *t, int64_t round, int32_t threads) {
    const nabla_train_options *o = t->options;
    const int32_t batch = o->batch, slot = (int32_t)(round % t->batches.slots);
    const int64_t step = round / o->accumulate;
    const int32_t first = (int32_t)(round % o->accumulate) * batch;
    nv_philox g = nv_draw(o->seed, NV_DRAW_LEVEL, step, 0);
    const float level = nv_philox_uniform(&g);
    nv_error *errors = errors_of(t, round);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int32_t i = 0; i < batch; i++)
        errors[i].status = draw_sample(t, &t->batches.host[slot], i, step, first + i, level, &errors[i]);
    t->batches.drawn[slot] = round;
}

static void *draw_aside(void *trainer) {
    nv_trainer *t = trainer;
    const int32_t threads = t->model.device->threads;
    draw(t, t->batches.next, threads > 1 ? threads - 1 : 1); /* one is left for who queues the round */
    return NULL;
}

/* ------------------------------------------------------------------ on the way */

static int64_t round_of(const nv_trainer *t) {
    return t->state.step * t->options->accumulate + t->rounds;
}

/* Of the whole run. */
static int64_t rounds_of(const nv_trainer *t) {
    return t->options->steps * t->options->accumulate;
}

/* Sends the batch of a round, drawn now unless it was ahead of time. */
static void send(nv_trainer *t, int64_t round) {
    nv_batches *b = &t->batches;
    nv_device *device = t->model.device;
    const int32_t slot = (int32_t)(round % b->slots);
    if (b->sent[slot] == round) return;
    if (b->drawn[slot] != round) {
        device->ops->fetched(device, slot);
        draw(t, round, device->threads);
    }
    device->ops->fetch(device, slot, b->device[slot].clean, b->host[slot].clean, b->bytes);
    b->sent[slot] = round;
}

nabla_status nv_batches_take(nv_trainer *t, int32_t *slot, nv_error *err) {
    nv_batches *b = &t->batches;
    nv_device *device = t->model.device;
    const int64_t round = round_of(t);
    nv_profile_enter(t->machine, NABLA_PART_WAIT);
    join(b);
    nv_profile_enter(t->machine, NABLA_PART_DATA);
    send(t, round);
    const nv_error *errors = errors_of(t, round);
    for (int32_t i = 0; i < t->options->batch; i++) {
        if (errors[i].status == NABLA_OK) continue;
        *err = errors[i];
        return err->status;
    }
    *slot = (int32_t)(round % b->slots);
    device->ops->await(device, *slot);
    if (b->slots > 1 && round + 1 < rounds_of(t)) send(t, round + 1);
    return NABLA_OK;
}

/* Into the slot whose batch the device has. Where no thread is to be had, it is drawn when it is to be sent. */
void nv_batches_ahead(nv_trainer *t) {
    nv_batches *b = &t->batches;
    const int64_t round = round_of(t);
    if (b->slots == 1 || round + 2 >= rounds_of(t)) return;
    t->model.device->ops->fetched(t->model.device, (int32_t)(round % b->slots));
    b->next = round + 2;
    b->drawing = pthread_create(&b->drawer, NULL, draw_aside, t) == 0;
}

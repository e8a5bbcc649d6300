/* SPDX-License-Identifier: Apache-2.0 */
/* All random numbers come from streams named by (seed, step, sample), so that a batch's bits depend on the step and
   nothing else. */
#include "video/train_batch.h"

#include <stdlib.h>
#include <string.h>

#include "train/draw.h"
#include "video/files.h"
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

/* Sample i of a step: clip, caption, noise level. */
static nabla_status draw_sample(nv_trainer *t, nv_batch *b, int64_t step, int32_t i, float level, nv_error *err) {
    const nabla_train_options *o = t->options;
    char caption[NV_CAPTION_SIZE];
    nv_philox clip = nv_draw(o->seed, NV_DRAW_CLIP, step, i), drop = nv_draw(o->seed, NV_DRAW_CAPTION, step, i);
    NV_TRY(t->source.draw(t->source.user, &clip, &t->clip, b->clean + (size_t)i * t->values, caption, err));
    if (nv_philox_uniform(&drop) < o->caption_dropout) caption[0] = '\0';
    nv_words_encode(t->model.words, caption, b->ids + (size_t)i * (size_t)nv_words_length(t->model.words), NULL, 0);
    b->sigma[i] = nv_noise_level(&t->levels, level, i, o->batch);
    b->time[i] = 1000.0f * b->sigma[i];
    b->weight[i] = nv_loss_weight(t->weighting, t->model.prediction, b->sigma[i]);
    return NABLA_OK;
}

static nv_error *errors_of(nv_trainer *t, int64_t step) {
    return t->batches.errors + step % t->batches.slots * t->options->batch;
}

static void draw(nv_trainer *t, int64_t step, int32_t threads) {
    const int32_t batch = t->options->batch, slot = (int32_t)(step % t->batches.slots);
    nv_philox g = nv_draw(t->options->seed, NV_DRAW_LEVEL, step, 0);
    const float level = nv_philox_uniform(&g);
    nv_error *errors = errors_of(t, step);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int32_t i = 0; i < batch; i++)
        errors[i].status = draw_sample(t, &t->batches.host[slot], step, i, level, &errors[i]);
    t->batches.drawn[slot] = step;
}

static void *draw_aside(void *trainer) {
    nv_trainer *t = trainer;
    const int32_t threads = t->model.device->threads;
    draw(t, t->batches.next, threads > 1 ? threads - 1 : 1); /* one is left for who queues the step */
    return NULL;
}

/* ------------------------------------------------------------------ on the way */

/* Sends the batch of a step, drawn now unless it was ahead of time. */
static void send(nv_trainer *t, int64_t step) {
    nv_batches *b = &t->batches;
    nv_device *device = t->model.device;
    const int32_t slot = (int32_t)(step % b->slots);
    if (b->sent[slot] == step) return;
    if (b->drawn[slot] != step) {
        device->ops->fetched(device, slot);
        draw(t, step, device->threads);
    }
    device->ops->fetch(device, slot, b->device[slot].clean, b->host[slot].clean, b->bytes);
    b->sent[slot] = step;
}

nabla_status nv_batches_take(nv_trainer *t, nv_batch *out, nv_error *err) {
    nv_batches *b = &t->batches;
    nv_device *device = t->model.device;
    const int64_t step = t->state.step;
    join(b);
    send(t, step);
    const nv_error *errors = errors_of(t, step);
    for (int32_t i = 0; i < t->options->batch; i++) {
        if (errors[i].status == NABLA_OK) continue;
        *err = errors[i];
        return err->status;
    }
    device->ops->await(device, (int32_t)(step % b->slots));
    if (b->slots > 1 && step + 1 < t->options->steps) send(t, step + 1);
    *out = b->device[step % b->slots];
    return NABLA_OK;
}

/* Into the slot whose batch the device has. Where no thread is to be had, it is drawn when it is to be sent. */
void nv_batches_ahead(nv_trainer *t) {
    nv_batches *b = &t->batches;
    if (b->slots == 1 || t->state.step + 2 >= t->options->steps) return;
    t->model.device->ops->fetched(t->model.device, (int32_t)(t->state.step % b->slots));
    b->next = t->state.step + 2;
    b->drawing = pthread_create(&b->drawer, NULL, draw_aside, t) == 0;
}

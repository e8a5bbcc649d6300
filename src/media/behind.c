/* SPDX-License-Identifier: Apache-2.0 */
#include "media/behind.h"

#include <pthread.h>
#include <stdlib.h>

struct nv_media_behind {
    nv_media_writer *writer;
    uint8_t *frames; /* [NV_BEHIND_FRAMES][size] */
    size_t size;
    pthread_t thread;
    int has_thread; /* without one, frames are written as they are given */
    /* Guarded by the mutex; the condition tells of every change. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int64_t given, written;
    int ended;
    nabla_status status; /* of the first frame that failed; those after it are dropped */
    nv_error failed;     /* what it said */
};

static uint8_t *frame(const nv_media_behind *b, int64_t i) {
    return b->frames + (size_t)(i % NV_BEHIND_FRAMES) * b->size;
}

static void *write_frames(void *behind) {
    nv_media_behind *b = behind;
    pthread_mutex_lock(&b->mutex);
    for (;;) {
        while (b->written == b->given && !b->ended)
            pthread_cond_wait(&b->changed, &b->mutex);
        if (b->written == b->given) break;
        nabla_status status = b->status;
        nv_error err = {0};
        pthread_mutex_unlock(&b->mutex);
        const int wanted = status == NABLA_OK;
        if (wanted) status = nv_media_frame(b->writer, frame(b, b->written), &err);
        pthread_mutex_lock(&b->mutex);
        if (wanted && status != NABLA_OK) {
            b->status = status;
            b->failed = err;
        }
        b->written++;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

/* Waits until no frame waits any more. */
static void join(nv_media_behind *b) {
    if (!b->has_thread) return;
    pthread_mutex_lock(&b->mutex);
    b->ended = 1;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->thread, NULL);
    b->has_thread = 0;
}

static void release(nv_media_behind *b) {
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    free(b->frames);
    free(b);
}

nabla_status nv_media_behind_open(const char *path, const nv_media_options *options, nv_media_behind **out,
                                  nv_error *err) {
    const size_t size = 3 * (size_t)options->width * (size_t)options->height;
    nv_media_behind *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the frames");
    b->size = size;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->frames = malloc(NV_BEHIND_FRAMES * size);
    nabla_status status =
        b->frames ? nv_media_open(path, options, &b->writer, err)
                  : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d frames of %zu bytes", NV_BEHIND_FRAMES, size);
    if (status != NABLA_OK) {
        release(b);
        return status;
    }
    b->has_thread = pthread_create(&b->thread, NULL, write_frames, b) == 0;
    *out = b;
    return NABLA_OK;
}

nabla_status nv_media_behind_room(nv_media_behind *b, uint8_t **rgb, nv_error *err) {
    pthread_mutex_lock(&b->mutex);
    while (b->given - b->written == NV_BEHIND_FRAMES)
        pthread_cond_wait(&b->changed, &b->mutex);
    const nabla_status status = b->status;
    if (status != NABLA_OK && err) *err = b->failed;
    *rgb = frame(b, b->given);
    pthread_mutex_unlock(&b->mutex);
    return status;
}

nabla_status nv_media_behind_give(nv_media_behind *b, nv_error *err) {
    if (!b->has_thread) return nv_media_frame(b->writer, b->frames, err);
    pthread_mutex_lock(&b->mutex);
    b->given++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    return NABLA_OK;
}

nabla_status nv_media_behind_finish(nv_media_behind *b, nv_error *err) {
    join(b);
    nabla_status status = b->status;
    if (status == NABLA_OK) {
        status = nv_media_finish(b->writer, err);
    } else {
        nv_media_abandon(b->writer);
        if (err) *err = b->failed;
    }
    release(b);
    return status;
}

void nv_media_behind_abandon(nv_media_behind *b) {
    if (!b) return;
    pthread_mutex_lock(&b->mutex);
    b->status = NABLA_CANCELLED; /* nobody wants those that wait */
    pthread_mutex_unlock(&b->mutex);
    join(b);
    nv_media_abandon(b->writer);
    release(b);
}

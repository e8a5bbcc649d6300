/* SPDX-License-Identifier: Apache-2.0 */
/* Time by phase, measured on the GPU: an event wherever the phase changes. They are read when somebody asks, or when
   there are many, which is the only time that this waits. What fails here costs only the time that it would have told:
   the runtime forgets the error, so that the next launch is not blamed for it. */
#include "device/cuda/cuda.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>

enum { MARKS = 4096 };

struct nv_cuda_timer {
    cudaEvent_t events[MARKS]; /* made when first needed; mark i: from here on phases[i] */
    nv_phase phases[MARKS];
    const nv_clock *shares[MARKS]; /* not NULL: the time from mark i on is shared out so */
    int32_t count;
    nv_phase phase; /* of what is queued now, marked or being recorded */
    nv_clock clock; /* of the marks read so far */
};

nabla_status nv_cuda_timer_open(nv_cuda *d, nv_error *err) {
    d->timer = calloc(1, sizeof *d->timer);
    return d->timer ? NABLA_OK : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a device");
}

void nv_cuda_timer_close(nv_cuda *d) {
    for (int32_t i = 0; d->timer && i < MARKS; i++)
        if (d->timer->events[i]) cudaEventDestroy(d->timer->events[i]);
    free(d->timer);
    d->timer = NULL;
}

static void mark(nv_cuda *d, nv_phase phase) {
    struct nv_cuda_timer *t = d->timer;
    cudaEvent_t *event = &t->events[t->count];
    if (!*event && cudaEventCreateWithFlags(event, cudaEventDefault)) {
        *event = NULL;
        cudaGetLastError();
        return;
    }
    if (cudaEventRecord(*event, d->stream)) {
        cudaGetLastError();
        return;
    }
    t->shares[t->count] = NULL;
    t->phases[t->count++] = phase;
}

static void add_time(nv_clock *clock, double seconds, nv_phase phase, const nv_clock *shares) {
    double all = 0;
    for (int i = 0; shares && i < NV_PHASES; i++)
        all += shares->seconds[i];
    if (all > 0)
        for (int i = 0; i < NV_PHASES; i++)
            clock->seconds[i] += seconds * shares->seconds[i] / all;
    else
        clock->seconds[phase] += seconds;
}

/* Adds up the time between marks, of which the last stays as the first. Where they cannot be read they are dropped, so
   that there is room again; a failure of the work itself the runtime tells whoever waits next. */
static void settle(nv_cuda *d) {
    struct nv_cuda_timer *t = d->timer;
    if (t->count < 2) return;
    if (cudaEventSynchronize(t->events[t->count - 1])) {
        cudaGetLastError();
        t->count = 0;
        return;
    }
    for (int32_t i = 0; i + 1 < t->count; i++) {
        float milliseconds = 0;
        if (cudaEventElapsedTime(&milliseconds, t->events[i], t->events[i + 1]) == cudaSuccess)
            add_time(&t->clock, 1e-3 * (double)milliseconds, t->phases[i], t->shares[i]);
        else
            cudaGetLastError();
    }
    cudaEvent_t last = t->events[t->count - 1];
    t->events[t->count - 1] = t->events[0];
    t->events[0] = last;
    t->phases[0] = t->phases[t->count - 1];
    t->shares[0] = t->shares[t->count - 1];
    t->count = 1;
}

nv_phase nv_cuda_phase(nv_device *dev, nv_phase phase) {
    nv_cuda *d = nv_cuda_of(dev);
    struct nv_cuda_timer *t = d->timer;
    const nv_phase before = t->phase;
    t->phase = phase;
    if (d->recording) return before; /* a replay goes faster without marks: see nv_cuda_shared_phase */
    if (before == phase && t->count) return before;
    if (t->count == MARKS) settle(d);
    mark(d, phase);
    return before;
}

void nv_cuda_clock_reset(nv_device *dev) {
    nv_cuda *d = nv_cuda_of(dev);
    d->timer->count = 0;
    d->timer->clock = (nv_clock){0};
    mark(d, d->timer->phase);
}

void nv_cuda_clock_read(nv_device *dev, nv_clock *out) {
    nv_cuda *d = nv_cuda_of(dev);
    if (d->timer->count == MARKS) settle(d);
    mark(d, d->timer->phase);
    settle(d);
    *out = d->timer->clock;
}

void nv_cuda_shared_phase(nv_cuda *d, const nv_clock *shares) {
    struct nv_cuda_timer *t = d->timer;
    if (t->count == MARKS) settle(d);
    const int32_t before = t->count;
    mark(d, t->phase);
    if (t->count > before) t->shares[before] = shares;
}

double nv_cuda_flop(const nv_cuda *d) {
    return d->timer->clock.product_flop;
}

void nv_cuda_count_flop(nv_cuda *d, double product_flop) {
    d->timer->clock.product_flop += product_flop;
}

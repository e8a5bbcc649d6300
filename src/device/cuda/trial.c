/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the algorithms that cuBLASLt advises is the fastest, found by running them once a product's shape is first
   met. The first in the order of advice that is nearly as fast as the fastest is taken, so that noise of the clock
   seldom decides. */
#include "device/cuda/answers.h"
#include <cuda_runtime_api.h>

/* A round runs every algorithm once over; the first loads kernels and is not counted. */
enum { ROUNDS = 4, SURE = 2 /* rounds after which the slow ones are left out */ };

static const double least_tried = 0x1p27; /* multiply-adds: below, the launch takes longer than the product */
static const double long_enough = 0x1p33; /* multiply-adds in a round of one algorithm, some 20 microseconds */
static const float hopeless = 1.25f, as_good = 1.02f; /* times the fastest's time */

typedef struct trial {
    nv_cuda_answer *answer;
    const nv_lt_heuristic *advice;
    nv_cuda_operands operands;
    const void *c;
    int count, repeats;
    float least[NV_CUDA_ADVISED];       /* milliseconds */
    unsigned char out[NV_CUDA_ADVISED]; /* failed, or too slow */
    int error;                          /* of the last that failed */
} trial;

static double work_of(const nv_cuda_question *q) {
    return (double)q->m * (double)q->n * (double)q->k;
}

static size_t bytes_of_d(const nv_cuda_question *q) {
    return (size_t)((q->n - 1) * q->d_ld + q->m) * (q->out == NV_LT_BF16 ? sizeof(uint16_t) : sizeof(float));
}

int nv_cuda_worth_trying(const nv_cuda_question *q) {
    return work_of(q) >= least_tried && (!q->add || bytes_of_d(q) <= NV_CUDA_TRIAL);
}

/* ------------------------------------------------------------------------------------------ events */

static cudaError_t make_events(struct nv_cuda_products *p) {
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < 2 * NV_CUDA_ADVISED && !error; i++) {
        cudaEvent_t event = NULL;
        if (p->events[i]) continue;
        error = cudaEventCreateWithFlags(&event, cudaEventDefault);
        p->events[i] = error ? NULL : event;
    }
    return error;
}

void nv_cuda_trial_close(struct nv_cuda_products *p) {
    for (int i = 0; i < 2 * NV_CUDA_ADVISED; i++)
        if (p->events[i]) cudaEventDestroy(p->events[i]);
}

/* ------------------------------------------------------------------------------------------ rounds */

static void queue_one(nv_cuda *d, trial *t, int i, cudaError_t *error) {
    void *const *events = d->products->events + 2 * i;
    *error = cudaEventRecord(events[0], d->stream);
    for (int r = 0; r < t->repeats && !*error && !t->out[i]; r++) {
        const int refused = nv_cuda_answer_run(d, t->answer, &t->advice[i].algo, &t->operands, t->c);
        if (!refused) continue;
        cudaGetLastError(); /* cuBLASLt's own tries at launching */
        t->out[i] = 1;
        t->error = refused;
    }
    if (!*error) *error = cudaEventRecord(events[1], d->stream);
}

static cudaError_t run_round(nv_cuda *d, trial *t, int round) {
    void *const *events = d->products->events;
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < t->count && !error; i++)
        if (!t->out[i]) queue_one(d, t, i, &error);
    if (!error) error = cudaStreamSynchronize(d->stream);
    for (int i = 0; i < t->count && !error && round > 0; i++) {
        float took = 0;
        if (t->out[i]) continue;
        error = cudaEventElapsedTime(&took, events[2 * i], events[2 * i + 1]);
        if (round == 1 || took < t->least[i]) t->least[i] = took;
    }
    return error;
}

/* The first that takes at most `times` the time of the fastest; -1: all failed. */
static int first_within(const trial *t, float times) {
    int fastest = -1, first = -1;
    for (int i = 0; i < t->count; i++)
        if (!t->out[i] && (fastest < 0 || t->least[i] < t->least[fastest])) fastest = i;
    for (int i = 0; i < t->count && first < 0; i++)
        if (!t->out[i] && t->least[i] <= times * t->least[fastest]) first = i;
    return first;
}

static void leave_out_slow(trial *t) {
    const int near = first_within(t, 1.0f);
    for (int i = 0; i < t->count && near >= 0; i++)
        if (t->least[i] > hopeless * t->least[near]) t->out[i] = 1;
}

static nabla_status run_rounds(nv_cuda *d, trial *t, nv_error *err) {
    cudaError_t error = make_events(d->products);
    for (int round = 0; round < ROUNDS && !error; round++) {
        error = run_round(d, t, round);
        if (round == SURE) leave_out_slow(t);
    }
    NV_TRY(nv_cuda_check(d, error, "trying algorithms of a product", err));
    const int taken = first_within(t, as_good);
    if (taken < 0)
        return nv_fail(err, NABLA_INTERNAL,
                       "%s: none of the %d algorithms that it advised for a product runs, error %d", d->products->name,
                       t->count, t->error);
    nv_cuda_answer_take(t->answer, t->advice, taken);
    t->answer->tried = 1;
    return NABLA_OK;
}

/* What is added to is only read, its sum goes elsewhere; what is overwritten anyway takes every try. */
nabla_status nv_cuda_try(nv_cuda *d, nv_cuda_answer *a, const nv_lt_heuristic *advice, int count,
                         const nv_cuda_operands *o, nv_error *err) {
    trial t = {.answer = a, .advice = advice, .operands = *o, .c = o->d, .count = count, .repeats = 1};
    void *elsewhere = NULL;
    NV_TRY(nv_cuda_not_recording(d, "trying the algorithms of a product", err));
    while (t.repeats < 8 && t.repeats * work_of(&a->q) < long_enough)
        t.repeats *= 2;
    if (a->q.add) {
        NV_TRY(nv_cuda_take(d, bytes_of_d(&a->q), &elsewhere, err));
        t.operands.d = elsewhere;
    }
    const nv_phase before = nv_cuda_phase(&d->base, NV_OTHER); /* no product of the model's */
    const nabla_status status = run_rounds(d, &t, err);
    nv_cuda_phase(&d->base, before);
    nv_cuda_release(&d->base, elsewhere);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "sample/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample/solver.h"

static const nv_solver *const solvers[] = {&nv_solver_unipc, &nv_solver_dpmpp, &nv_solver_euler};
enum { SOLVERS = sizeof solvers / sizeof *solvers, MAX_STEPS = 1000 };

const char *nv_solver_name(int32_t i) {
    return i >= 0 && i < SOLVERS ? solvers[i]->name : NULL;
}

int32_t nv_solver_history(const char *name) {
    for (int i = 0; i < SOLVERS; i++) {
        if (strcmp(name, solvers[i]->name) == 0) return solvers[i]->history;
    }
    return 0;
}

static nabla_status find(const char *name, const nv_solver **out, nv_error *err) {
    char known[128] = "";
    for (int i = 0; i < SOLVERS; i++) {
        if (strcmp(name, solvers[i]->name) == 0) {
            *out = solvers[i];
            return NABLA_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", solvers[i]->name);
    }
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "unknown solver \"%.64s\": use one of %s", name, known);
}

static nabla_status check(const nv_solver *row, int32_t steps, float shift, size_t n, size_t *history, nv_error *err) {
    if (steps < 1 || steps > MAX_STEPS) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d steps: choose 1 to %d", steps, MAX_STEPS);
    }
    if (!(shift > 0.0f && isfinite(shift))) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "shift %g: choose a number above 0", (double)shift);
    }
    if (__builtin_mul_overflow(n, (size_t)row->history * sizeof(float), history)) {
        return nv_fail(err, NABLA_OVERFLOW, "a latent of %zu elements is too large for solver %s", n, row->name);
    }
    return NABLA_OK;
}

static void fill_schedule(nv_sampler *s, float shift) {
    double levels[MAX_STEPS];
    s->solver->levels(s->steps, levels);
    for (int32_t i = 0; i < s->steps; i++) {
        double sigma = nv_level_shift(levels[i], (double)shift);
        s->sigmas[i] = (float)sigma;
        s->times[i] = (float)s->solver->time(sigma);
    }
    s->sigmas[s->steps] = 0.0f;
}

nabla_status nv_sampler_create(const char *solver, int32_t steps, float shift, size_t n, nv_sampler **out,
                               nv_error *err) {
    const nv_solver *row = NULL;
    size_t history = 0;
    *out = NULL;
    NV_TRY(find(solver, &row, err));
    NV_TRY(check(row, steps, shift, n, &history, err));
    nv_sampler *s = calloc(1, sizeof *s);
    if (!s) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for solver %s", row->name);
    *s = (nv_sampler){.solver = row, .steps = steps, .n = n};
    s->sigmas = malloc(((size_t)steps + 1) * sizeof *s->sigmas);
    s->times = malloc((size_t)steps * sizeof *s->times);
    s->history = calloc(history + 1, 1);
    if (!s->sigmas || !s->times || !s->history) {
        nv_sampler_destroy(s);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for solver %s on %zu elements", row->name, n);
    }
    fill_schedule(s, shift);
    *out = s;
    return NABLA_OK;
}

void nv_sampler_destroy(nv_sampler *s) {
    if (!s) return;
    free(s->sigmas);
    free(s->times);
    free(s->history);
    free(s);
}

int32_t nv_sampler_steps(const nv_sampler *s) {
    return s->steps;
}

float nv_sampler_sigma(const nv_sampler *s, int32_t i) {
    return s->sigmas[i];
}

float nv_sampler_time(const nv_sampler *s, int32_t i) {
    return s->times[i];
}

int32_t nv_sampler_history(const nv_sampler *s, float **values) {
    *values = s->history;
    return s->solver->history;
}

void nv_sampler_step(nv_sampler *s, int32_t i, float *x, const float *velocity) {
    /* A solver multiplies what it does not remember yet by 0, which NaN would survive. */
    if (i == 0) memset(s->history, 0, (size_t)s->solver->history * s->n * sizeof *s->history);
    s->solver->step(s, i, x, velocity);
}

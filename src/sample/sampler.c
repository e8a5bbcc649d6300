/* SPDX-License-Identifier: Apache-2.0 */
#include "sample/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample/solver.h"

static const nv_solver *const solvers[] = {&nv_solver_euler};
enum { SOLVERS = sizeof solvers / sizeof *solvers, MAX_STEPS = 1000 };

const char *nv_solver_name(int32_t i) {
    return i >= 0 && i < SOLVERS ? solvers[i]->name : NULL;
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

nabla_status nv_sampler_create(const char *solver, int32_t steps, float shift, size_t n, nv_sampler **out,
                               nv_error *err) {
    const nv_solver *row;
    size_t history;
    *out = NULL;
    NV_TRY(find(solver, &row, err));
    if (steps < 1 || steps > MAX_STEPS) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d steps: choose 1 to %d", steps, MAX_STEPS);
    }
    if (!(shift > 0.0f && isfinite(shift))) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "shift %g: choose a number above 0", (double)shift);
    }
    if (__builtin_mul_overflow(n, (size_t)row->history * sizeof(float), &history)) {
        return nv_fail(err, NABLA_OVERFLOW, "a latent of %zu elements is too large for solver %s", n, row->name);
    }
    nv_sampler *s = calloc(1, sizeof *s);
    float *sigmas = calloc((size_t)steps + 1, sizeof *sigmas), *past = malloc(history + 1);
    if (!s || !sigmas || !past) {
        free(s);
        free(sigmas);
        free(past);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for solver %s on %zu elements", row->name, n);
    }
    *s = (nv_sampler){.solver = row, .steps = steps, .n = n, .sigmas = sigmas, .history = past};
    row->levels(steps, sigmas);
    for (int32_t i = 0; i < steps; i++) {
        sigmas[i] = nv_level_shift(sigmas[i], shift);
    }
    *out = s;
    return NABLA_OK;
}

void nv_sampler_destroy(nv_sampler *s) {
    if (!s) return;
    free(s->sigmas);
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
    return s->solver->time(s->sigmas[i]);
}

void nv_sampler_step(nv_sampler *s, int32_t i, float *x, const float *velocity) {
    s->solver->step(s, i, x, velocity);
}

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

static int32_t latents_of(const nv_solver *row) {
    return row->history > 0 ? row->history : 1; /* the last clean one is there for previews */
}

int32_t nv_solver_latents(const char *name) {
    for (int i = 0; i < SOLVERS; i++) {
        if (strcmp(name, solvers[i]->name) == 0) return latents_of(solvers[i]);
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

static nabla_status check(const nv_solver *row, const nv_sampler_rule *rule, size_t n, size_t *bytes, nv_error *err) {
    if (rule->steps < 1 || rule->steps > MAX_STEPS) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d steps: choose 1 to %d", rule->steps, MAX_STEPS);
    }
    if (!(rule->shift > 0.0f && isfinite(rule->shift))) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "shift %g: choose a number above 0", (double)rule->shift);
    }
    if (__builtin_mul_overflow(n, (size_t)latents_of(row) * sizeof(float), bytes)) {
        return nv_fail(err, NABLA_OVERFLOW, "a latent of %zu elements is too large for solver %s", n, row->name);
    }
    return NABLA_OK;
}

static void fill_schedule(nv_sampler *s) {
    double levels[MAX_STEPS];
    s->solver->levels(s->steps, levels);
    for (int32_t i = 0; i < s->steps; i++) {
        double sigma = nv_level_shift(levels[i], (double)s->rule.shift);
        s->sigmas[i] = (float)sigma;
        s->times[i] = (float)s->solver->time(sigma);
    }
    s->sigmas[s->steps] = 0.0f;
}

static nabla_status take_memory(nv_sampler *s, size_t bytes, nv_error *err) {
    const nv_device_ops *ops = s->device->ops;
    s->sigmas = malloc(((size_t)s->steps + 1) * sizeof *s->sigmas);
    s->times = malloc((size_t)s->steps * sizeof *s->times);
    if (!s->sigmas || !s->times) {
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d steps of solver %s", s->steps, s->solver->name);
    }
    NV_TRY(ops->allocate(s->device, sizeof *s->numbers, (void **)&s->numbers, err));
    return ops->allocate(s->device, bytes, (void **)&s->history, err);
}

nabla_status nv_sampler_create(nv_device *device, const nv_sampler_rule *rule, size_t n, nv_sampler **out,
                               nv_error *err) {
    const nv_solver *row = NULL;
    size_t bytes = 0;
    *out = NULL;
    NV_TRY(find(rule->solver, &row, err));
    NV_TRY(check(row, rule, n, &bytes, err));
    nv_sampler *s = calloc(1, sizeof *s);
    if (!s) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for solver %s", row->name);
    *s = (nv_sampler){.device = device, .rule = *rule, .solver = row, .steps = rule->steps, .n = n};
    const nabla_status status = take_memory(s, bytes, err);
    if (status != NABLA_OK) {
        nv_sampler_destroy(s);
        return status;
    }
    fill_schedule(s);
    *out = s;
    return NABLA_OK;
}

void nv_sampler_destroy(nv_sampler *s) {
    if (!s) return;
    free(s->sigmas);
    free(s->times);
    s->device->ops->release(s->device, s->history);
    s->device->ops->release(s->device, s->numbers);
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

/* ------------------------------------------------------------------ steps */

void nv_sampler_prepare(nv_sampler *s, int32_t i) {
    const nv_device_ops *ops = s->device->ops;
    const float sigma = s->sigmas[i];
    nv_solve_numbers numbers = {.step = i + 1, .guidance = s->rule.guidance, .sigma = sigma};
    if (s->rule.gives_clean) numbers.scale = 1.0f / (sigma > NV_SIGMA_FLOOR ? sigma : NV_SIGMA_FLOOR);
    s->solver->weigh(s, i, &numbers);
    if (i == 0) { /* What is not remembered yet is multiplied by 0, which NaN would survive. */
        ops->zero(s->device, s->history, (size_t)latents_of(s->solver) * s->n * sizeof *s->history);
        ops->zero(s->device, &s->numbers->failed, sizeof s->numbers->failed);
    }
    ops->upload(s->device, &s->numbers->solve, &numbers, sizeof numbers);
}

static float *latent_of(const nv_sampler *s, int32_t slot) {
    return slot < latents_of(s->solver) ? s->history + (size_t)slot * s->n : NULL;
}

nabla_status nv_sampler_step(nv_sampler *s, float *x, const float *output, nv_error *err) {
    const nv_solve a = {.n = (int64_t)s->n,
                        .guided = s->rule.guided,
                        .output = output,
                        .x = x,
                        .last = latent_of(s, NV_LAST_CLEAN),
                        .before = latent_of(s, NV_CLEAN_BEFORE),
                        .corrected = latent_of(s, NV_LAST_CORRECTED),
                        .numbers = &s->numbers->solve,
                        .failed = &s->numbers->failed};
    const nv_phase before = s->device->ops->phase(s->device, NV_UPDATE);
    const nabla_status status = s->device->ops->solve(s->device, &a, err);
    s->device->ops->phase(s->device, before);
    return status;
}

const float *nv_sampler_clean(const nv_sampler *s) {
    return latent_of(s, NV_LAST_CLEAN);
}

nabla_status nv_sampler_failed(const nv_sampler *s, int32_t *step, nv_error *err) {
    return s->device->ops->download(s->device, step, &s->numbers->failed, sizeof *step, err);
}

/* ------------------------------------------------------------------ history */

int32_t nv_sampler_history(const nv_sampler *s) {
    return s->solver->history;
}

static size_t history_bytes(const nv_sampler *s) {
    return (size_t)s->solver->history * s->n * sizeof *s->history;
}

nabla_status nv_sampler_read_history(const nv_sampler *s, float *values, nv_error *err) {
    return s->device->ops->download(s->device, values, s->history, history_bytes(s), err);
}

void nv_sampler_write_history(nv_sampler *s, const float *values) {
    const nv_device_ops *ops = s->device->ops;
    ops->upload(s->device, s->history, values, history_bytes(s));
    ops->zero(s->device, &s->numbers->failed, sizeof s->numbers->failed);
}

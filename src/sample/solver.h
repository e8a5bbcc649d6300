/* SPDX-License-Identifier: Apache-2.0 */
/* What a solver brings to the sampler: a row of the table in sampler.c. */
#ifndef NV_SOLVER_H
#define NV_SOLVER_H

#include "sample/sampler.h"

typedef struct nv_solver {
    const char *name;
    int32_t history; /* latents that it remembers between steps; 0 for one-step solvers */
    /* Noise levels before the shift, falling from at most 1: sigmas[steps]. */
    void (*levels)(int32_t steps, float *sigmas);
    /* What the model is told for a (shifted) sigma. */
    float (*time)(float sigma);
    void (*step)(nv_sampler *s, int32_t i, float *x, const float *velocity);
} nv_solver;

extern const nv_solver nv_solver_euler;

struct nv_sampler {
    const nv_solver *solver;
    int32_t steps;
    size_t n;       /* elements of a latent */
    float *sigmas;  /* [steps + 1], the last 0 */
    float *history; /* [solver->history, n] */
};

/* schedule.c: numpy.linspace(first, last, steps + 1)[:-1], rounded to fp32. */
void nv_levels_linear(double first, double last, int32_t steps, float *sigmas);
/* sigma' = shift sigma / (1 + (shift - 1) sigma), in fp32. */
float nv_level_shift(float sigma, float shift);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What a solver brings to the sampler: a row of the table in sampler.c. */
#ifndef NV_SOLVER_H
#define NV_SOLVER_H

#include "sample/sampler.h"

typedef struct nv_solver {
    const char *name;
    int32_t history; /* latents that it remembers between steps; 0 for one-step solvers */
    /* Noise levels before the shift, falling from at most 1: sigmas[steps]. */
    void (*levels)(int32_t steps, double *sigmas);
    /* What the model is told for a (shifted) sigma. */
    double (*time)(double sigma);
    void (*step)(nv_sampler *s, int32_t i, float *x, const float *velocity);
} nv_solver;

extern const nv_solver nv_solver_unipc, nv_solver_dpmpp, nv_solver_euler;

struct nv_sampler {
    const nv_solver *solver;
    int32_t steps;
    size_t n;       /* elements of a latent */
    float *sigmas;  /* [steps + 1], the last 0 */
    float *times;   /* [steps] */
    float *history; /* [solver->history, n], zero before the first step */
};

/* schedule.c, in fp64 and in the order of numpy's operations until the end: a time that is cut to a whole number may
   lie on it but for the last bit. */
/* numpy.linspace(first, last, steps + 1)[:-1] */
void nv_levels_linear(double first, double last, int32_t steps, double *sigmas);
/* sigma' = shift sigma / (1 + (shift - 1) sigma) */
double nv_level_shift(double sigma, double shift);
/* 1000 sigma cut to a whole number, as the multi-step solvers' reference codes tell it to the model. */
double nv_time_whole(double sigma);
/* Half the logarithm of the signal to noise ratio after i steps, ln((1 - sigma) / sigma): -inf at sigma = 1, inf at the
   end. */
double nv_lambda(const nv_sampler *s, int32_t i);

#endif

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
    /* Fills `here` and `next` for step i; they are zero, as is what is not remembered yet. */
    void (*weigh)(const nv_sampler *s, int32_t i, nv_solve_numbers *out);
} nv_solver;

extern const nv_solver nv_solver_unipc, nv_solver_dpmpp, nv_solver_euler;

/* Latents that are kept: m_{k-1}, for previews too; m_{k-2} and xc_{k-1}, of solvers that correct. */
enum { NV_LAST_CLEAN, NV_CLEAN_BEFORE, NV_LAST_CORRECTED, NV_MOST_HISTORY };

/* What the device reads and writes beside latents. */
typedef struct nv_sampler_numbers {
    nv_solve_numbers solve;
    int32_t failed;
} nv_sampler_numbers;

struct nv_sampler {
    nv_device *device;
    nv_sampler_rule rule;
    const nv_solver *solver;
    int32_t steps;
    size_t n;                    /* elements of a latent */
    float *sigmas;               /* [steps + 1], the last 0 */
    float *times;                /* [steps] */
    float *history;              /* the device's: [nv_solver_latents, n], zero before the first step */
    nv_sampler_numbers *numbers; /* the device's */
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

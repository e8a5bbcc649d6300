/* SPDX-License-Identifier: Apache-2.0 */
/* Flow-matching sampling: x_sigma = (1 - sigma) x0 + sigma noise, velocity v = noise - x0. A schedule gives sigmas; a
   solver, a row of the table in sampler.c, steps from one to the next. */
#ifndef NV_SAMPLER_H
#define NV_SAMPLER_H

#include "tensor/error.h"

typedef struct nv_sampler nv_sampler;

/* The i-th solver's name, NULL past the last. */
const char *nv_solver_name(int32_t i);

/* How many latents the solver of that name remembers between steps; 0 for a name that is none. */
int32_t nv_solver_history(const char *name);

/* solver: "unipc", "dpm++" or "euler". steps in 1 to 1000; shift > 0: sigma' = shift sigma / (1 + (shift - 1) sigma).
 * n: elements of the latent. */
nabla_status nv_sampler_create(const char *solver, int32_t steps, float shift, size_t n, nv_sampler **out,
                               nv_error *err);
void nv_sampler_destroy(nv_sampler *s);
int32_t nv_sampler_steps(const nv_sampler *s);
float nv_sampler_sigma(const nv_sampler *s, int32_t i); /* i in [0, steps]; the last is 0 */
/* What the model is told: 1000 sigma, rounded as the solver does. */
float nv_sampler_time(const nv_sampler *s, int32_t i);
/* x (in place) from sigma_i to sigma_{i+1}, given the model's velocity at (x, sigma_i). Call with i = 0, 1, 2 ...; at 0
   what earlier runs left behind is forgotten. */
void nv_sampler_step(nv_sampler *s, int32_t i, float *x, const float *velocity);
/* What the solver remembers between steps, fp32 [count, n] in *values, and the count. With x and i it is all that a run
   needs to go on to the same bits. */
int32_t nv_sampler_history(const nv_sampler *s, float **values);

#endif

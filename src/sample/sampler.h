/* SPDX-License-Identifier: Apache-2.0 */
/* Flow-matching sampling: x_sigma = (1 - sigma) x0 + sigma noise, velocity v = noise - x0. A schedule gives sigmas; a
   solver, a row of the table in sampler.c, steps from one to the next. Latents and what a solver remembers of them lie
   in the device's memory; weights are made in fp64 on the host, and go there in front of their step. */
#ifndef NV_SAMPLER_H
#define NV_SAMPLER_H

#include "device/device.h"

typedef struct nv_sampler nv_sampler;

/* The i-th solver's name, NULL past the last. */
const char *nv_solver_name(int32_t i);

/* How many latents a sampler with the solver of that name keeps in the device's memory; 0 for a name that is none. */
int32_t nv_solver_latents(const char *name);

typedef struct nv_sampler_rule {
    const char *solver; /* "unipc", "dpm++" or "euler" */
    int32_t steps;      /* 1 to 1000 */
    float shift;        /* > 0: sigma' = shift sigma / (1 + (shift - 1) sigma) */
    int32_t guided;     /* the model's output is two: with caption, then without */
    float guidance;
    int32_t gives_clean; /* the model gives x0, not the velocity */
} nv_sampler_rule;

/* n: elements of the latents of a batch. */
nabla_status nv_sampler_create(nv_device *device, const nv_sampler_rule *rule, size_t n, nv_sampler **out,
                               nv_error *err);
void nv_sampler_destroy(nv_sampler *s);
int32_t nv_sampler_steps(const nv_sampler *s);
float nv_sampler_sigma(const nv_sampler *s, int32_t i); /* i in [0, steps]; the last is 0 */
/* What the model is told: 1000 sigma, rounded as the solver does. */
float nv_sampler_time(const nv_sampler *s, int32_t i);

/* The velocity of a model that gives x0 is (x - x0) / sigma; below this the floor divides. Samplers stop well above it
   (50 steps: 0.02). */
#define NV_SIGMA_FLOOR 1e-3f

/* Step i is next: copies its numbers to the device, queued. Call with i = 0, 1, 2 ...; at 0 what earlier runs left
   behind is forgotten. */
void nv_sampler_prepare(nv_sampler *s, int32_t i);
/* x (in place) from sigma_i to sigma_{i+1}, given the model's output at (x, sigma_i); both the device's. Only queues,
   the same for every step, so that it can be recorded. */
nabla_status nv_sampler_step(nv_sampler *s, float *x, const float *output, nv_error *err);
/* The device's: the clean latents as the model saw them in the last step. */
const float *nv_sampler_clean(const nv_sampler *s);
/* The first step, from 1, that left NaN or infinity in x; 0: none. Waits. */
nabla_status nv_sampler_failed(const nv_sampler *s, int32_t *step, nv_error *err);

/* How many latents the solver remembers between steps. With x and i they are all that a run needs to go on to the same
   bits: to and from the host, fp32 [count, n]. Reading waits. */
int32_t nv_sampler_history(const nv_sampler *s);
nabla_status nv_sampler_read_history(const nv_sampler *s, float *values, nv_error *err);
void nv_sampler_write_history(nv_sampler *s, const float *values);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Euler's method on dx/dsigma = v: flow matching's plainest solver. */
#include "sample/solver.h"

static void levels(int32_t steps, double *sigmas) {
    nv_levels_linear(1.0, 0.0, steps, sigmas);
}

static double time_of(double sigma) {
    return 1000.0 * sigma; /* not truncated, unlike that of the multi-step solvers */
}

static void weigh(const nv_sampler *s, int32_t i, nv_solve_numbers *out) {
    out->here.x = out->next.here = 1.0f;
    out->next.velocity = s->sigmas[i + 1] - s->sigmas[i];
}

const nv_solver nv_solver_euler = {"euler", 0, levels, time_of, weigh};

/* SPDX-License-Identifier: Apache-2.0 */
/* Euler's method on dx/dsigma = v: flow matching's plainest solver. */
#include "sample/solver.h"

static void levels(int32_t steps, double *sigmas) {
    nv_levels_linear(1.0, 0.0, steps, sigmas);
}

static double time_of(double sigma) {
    return 1000.0 * sigma; /* not truncated, unlike that of the multi-step solvers */
}

static void step(nv_sampler *s, int32_t i, float *x, const float *velocity) {
    float width = s->sigmas[i + 1] - s->sigmas[i];
    for (size_t j = 0; j < s->n; j++) {
        x[j] += width * velocity[j];
    }
}

const nv_solver nv_solver_euler = {"euler", 0, levels, time_of, step};

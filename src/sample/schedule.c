/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "sample/solver.h"

void nv_levels_linear(double first, double last, int32_t steps, double *sigmas) {
    double step = (last - first) / steps;
    for (int32_t i = 0; i < steps; i++) {
        sigmas[i] = i * step + first;
    }
}

double nv_level_shift(double sigma, double shift) {
    return shift * sigma / (1.0 + (shift - 1.0) * sigma);
}

double nv_time_whole(double sigma) {
    return trunc(1000.0 * sigma);
}

double nv_lambda(const nv_sampler *s, int32_t i) {
    double sigma = (double)s->sigmas[i];
    return log1p(-sigma) - log(sigma);
}

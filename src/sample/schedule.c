/* SPDX-License-Identifier: Apache-2.0 */
#include "sample/solver.h"

void nv_levels_linear(double first, double last, int32_t steps, float *sigmas) {
    double step = (last - first) / steps;
    for (int32_t i = 0; i < steps; i++) {
        sigmas[i] = (float)(i * step + first);
    }
}

float nv_level_shift(float sigma, float shift) {
    return shift * sigma / (1.0f + (shift - 1.0f) * sigma);
}

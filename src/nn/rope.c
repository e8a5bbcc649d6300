/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/rope.h"
#include <math.h>

static float *axis_angles(float *out, double position, int32_t dims) {
    for (int32_t i = 0; i < dims; i += 2) {
        const double angle = position * pow(10000.0, -(double)i / (double)dims);
        *out++ = (float)cos(angle);
        *out++ = (float)sin(angle);
    }
    return out;
}

void nv_rope_table(float *table, const int32_t grid[3], const int32_t *raster, int32_t head_dim, const float scale[3]) {
    const int32_t space = 2 * (head_dim / 6), dims[3] = {head_dim - 2 * space, space, space};
    const int64_t tokens = (int64_t)grid[0] * grid[1] * grid[2];
    for (int64_t t = 0; t < tokens; t++) {
        const int32_t at = raster[t], position[3] = {at / (grid[1] * grid[2]), at / grid[2] % grid[1], at % grid[2]};
        for (int axis = 0; axis < 3; axis++)
            table = axis_angles(table, (double)position[axis] * (double)scale[axis], dims[axis]);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The squared error and its gradient. Sums are cut at fixed places, so that the order of additions does not depend on
   the threads. */
#include "device/cpu/cpu.h"

enum { CHUNK = 1 << 14, LANES = 16 };

/* A chunk's sum of squares in lanes, so that it vectorises without reordering. */
static double chunk_mse(int64_t n, float gradient_scale, const float *target, float *output) {
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int64_t j = 0; j < LANES; j++) {
            const float d = output[i + j] - target[i + j];
            lane[j] += d * d;
            output[i + j] = gradient_scale * d;
        }
    }
    double sum = 0.0;
    for (int64_t j = 0; j < LANES; j++)
        sum += (double)lane[j];
    for (; i < n; i++) {
        const float d = output[i] - target[i];
        sum += (double)d * (double)d;
        output[i] = gradient_scale * d;
    }
    return sum;
}

nabla_status nv_cpu_mse(nv_device *dev, int64_t batch, int64_t n, const float *weight, const float *target,
                        float *output, double *loss, nv_error *err) {
    const int64_t chunks = (n + CHUNK - 1) / CHUNK, total = batch * chunks;
    const double mean = 1.0 / ((double)batch * (double)n);
    void *scratch;
    *loss = 0.0;
    NV_TRY(nv_cpu_scratch(nv_cpu_of(dev), NV_SCRATCH_SUMS, (size_t)(total + 1) * sizeof(double), &scratch, err));
    double *sums = scratch;
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t c = 0; c < total; c++) {
        const int64_t b = c / chunks, first = c % chunks * CHUNK, count = n - first < CHUNK ? n - first : CHUNK;
        const float scale = (float)(2.0 * mean * (double)weight[b]);
        sums[c] = (double)weight[b] * chunk_mse(count, scale, target + b * n + first, output + b * n + first);
    }
    for (int64_t c = 0; c < total; c++)
        *loss += sums[c];
    *loss *= mean;
    return NABLA_OK;
}

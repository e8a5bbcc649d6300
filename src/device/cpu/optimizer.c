/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over long flat arrays, the optimizer's above all, in pieces of fixed length. */
#include "device/cpu/cpu.h"
#include <string.h>

enum { PIECE = 1 << 14 };

nabla_status nv_cpu_sum_squares(nv_device *dev, const float *x, size_t n, double *sum, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    void *scratch;
    const int64_t total = (int64_t)n, pieces = (total + PIECE - 1) / PIECE;
    *sum = 0.0;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_SUMS, (size_t)pieces * sizeof(double), &scratch, err));
    double *partial = scratch;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t first = i * PIECE, count = total - first < PIECE ? total - first : PIECE;
        partial[i] = cpu->rows->sum_squares(x + first, count);
    }
    for (int64_t i = 0; i < pieces; i++)
        *sum += partial[i];
    return NABLA_OK;
}

nabla_status nv_cpu_add(nv_device *dev, float *sum, const float *x, int64_t n, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    const int64_t pieces = (n + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(dev->threads) schedule(static) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++)
        rows->add(sum + i * PIECE, x + i * PIECE, n - i * PIECE < PIECE ? n - i * PIECE : PIECE);
    return NABLA_OK;
}

nabla_status nv_cpu_adamw(nv_device *dev, const nv_adamw *a, size_t n, float *value, const float *grad, float *m,
                          float *v, float *ema, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    const int64_t total = (int64_t)n, pieces = (total + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(dev->threads) schedule(static) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t at = i * PIECE, count = total - at < PIECE ? total - at : PIECE;
        rows->adamw(a, count, value + at, grad + at, m + at, v + at, ema ? ema + at : NULL);
    }
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over long flat arrays, the optimizer's above all, in pieces of fixed length. */
#include "device/cpu/cpu.h"
#include <math.h>
#include <string.h>

enum { PIECE = NV_PIECE };

nabla_status nv_cpu_sum_squares(nv_device *dev, const nv_piece *pieces, int64_t count, double *sum, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    void *scratch;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_SUMS, (size_t)(count + 1) * sizeof(double), &scratch, err));
    double *partial = scratch, total = 0.0;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < count; i++)
        partial[i] = cpu->rows->sum_squares(pieces[i].grad, pieces[i].count);
    for (int64_t i = 0; i < count; i++)
        total += partial[i];
    *sum = total;
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

nabla_status nv_cpu_adamw(nv_device *dev, const nv_adamw *a, const nv_piece *pieces, int64_t count, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    if (!isfinite(*a->squares)) return NABLA_OK;
    const double norm = (double)a->grad_scale * sqrt(*a->squares);
    const int clipped = a->clip > 0.0f && norm > (double)a->clip;
    const float scale = a->grad_scale * (clipped ? (float)((double)a->clip / norm) : 1.0f);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        rows->adamw(a, scale, &pieces[i]);
        memset(pieces[i].grad, 0, (size_t)pieces[i].count * sizeof(float));
    }
    return NABLA_OK;
}

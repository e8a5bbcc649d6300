/* SPDX-License-Identifier: Apache-2.0 */
/* The row-wise operations: rows shared out among the threads, partial sums of columns added up in order. */
#include "device/cpu/cpu.h"
#include "tensor/arena.h"
#include <string.h>

/* `arrays` partial sums of `dim` columns for every chunk, zeroed. */
static nabla_status partial_sums(nv_cpu *cpu, const nv_chunks *chunks, int64_t arrays, int64_t dim, float **out,
                                 nv_error *err) {
    nv_arena count = {0};
    void *p;
    nv_arena_take(&count, chunks->count * arrays, (size_t)dim * sizeof(float));
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_SUMS, count.used, &p, err));
    memset(p, 0, count.used);
    *out = p;
    return NABLA_OK;
}

/* sum[dim] += the chunks' partial sums number `array` of `arrays`, in order; stride moves sum from group to group. */
static void add_partial_sums(const nv_cpu *cpu, const nv_chunks *chunks, const float *partial, int64_t arrays,
                             int64_t array, int64_t dim, float *sum, int64_t stride) {
    if (!sum) return;
    for (int64_t i = 0; i < chunks->count; i++)
        cpu->rows->add(sum + i / chunks->per_group * stride, partial + (i * arrays + array) * dim, dim);
}

nabla_status nv_cpu_seam(nv_device *dev, const nv_seam *a, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    if (a->rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(a->rows, a->rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->seam(a, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_seam_backward(nv_device *dev, const nv_seam *a, const nv_seam_grad *g, nv_error *err) {
    enum { GAIN, SHIFT, GATE, BIAS, SUMS };
    nv_cpu *cpu = nv_cpu_of(dev);
    float *partial;
    if (a->rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(a->rows, a->group_rows);
    NV_TRY(partial_sums(cpu, &chunks, SUMS, a->dim, &partial, err));
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        cpu->rows->seam_backward(a, g, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i),
                                 partial + i * SUMS * a->dim);
    add_partial_sums(cpu, &chunks, partial, SUMS, GAIN, a->dim, g->d_gain, g->d_gain_stride);
    add_partial_sums(cpu, &chunks, partial, SUMS, SHIFT, a->dim, g->d_shift, g->d_gain_stride);
    add_partial_sums(cpu, &chunks, partial, SUMS, GATE, a->dim, g->d_gate, g->d_gate_stride);
    add_partial_sums(cpu, &chunks, partial, SUMS, BIAS, a->dim, g->d_bias, 0);
    return NABLA_OK;
}

nabla_status nv_cpu_qk_norm(nv_device *dev, const nv_qk_norm *a, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    if (a->x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(a->x.rows, a->x.rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->qk_norm(a, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_qk_norm_backward(nv_device *dev, const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, float *d_weight,
                                     float *d_bias, nv_error *err) {
    enum { WEIGHT, BIAS, SUMS };
    nv_cpu *cpu = nv_cpu_of(dev);
    float *partial;
    if (a->x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(a->x.rows, a->x.rows);
    NV_TRY(partial_sums(cpu, &chunks, SUMS, a->x.cols, &partial, err));
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        cpu->rows->qk_norm_backward(a, d_y, d_x, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i),
                                    partial + i * SUMS * a->x.cols);
    add_partial_sums(cpu, &chunks, partial, SUMS, WEIGHT, a->x.cols, d_weight, 0);
    add_partial_sums(cpu, &chunks, partial, SUMS, BIAS, a->x.cols, d_bias, 0);
    return NABLA_OK;
}

nabla_status nv_cpu_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix y, nv_error *err) {
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    (void)err;
    if (x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(x.rows, x.rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->activate(act, x, y, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_activate_backward(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                      nv_matrix again, float *d_bias, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    float *partial;
    if (x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(x.rows, x.rows);
    NV_TRY(partial_sums(cpu, &chunks, 1, x.cols, &partial, err));
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        cpu->rows->activate_backward(act, x, d_y, d_x, again, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i),
                                     d_bias ? partial + i * x.cols : NULL);
    add_partial_sums(cpu, &chunks, partial, 1, 0, x.cols, d_bias, 0);
    return NABLA_OK;
}

nabla_status nv_cpu_gate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, nv_error *err) {
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    (void)err;
    if (x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(x.rows, x.rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->gate(act, x, z, y, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_softmax(nv_device *dev, nv_matrix s, float scale, const float *bias, nv_matrix p, nv_error *err) {
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    (void)err;
    if (s.rows == 0 || s.cols == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(s.rows, s.rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->softmax(s, scale, bias, p, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_cast(nv_device *dev, nv_matrix src, nv_matrix dst, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    if (src.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(src.rows, src.rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->cast(src, dst, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_column_sums(nv_device *dev, nv_matrix x, float *sums, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    float *partial;
    if (x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(x.rows, x.rows);
    NV_TRY(partial_sums(cpu, &chunks, 1, x.cols, &partial, err));
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        cpu->rows->column_sums(x, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i), partial + i * x.cols);
    add_partial_sums(cpu, &chunks, partial, 1, 0, x.cols, sums, 0);
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The passes over a frame's pixels: rows or lines of them shared out among the threads. */
#include "device/cpu/cpu.h"
#include <string.h>

nabla_status nv_cpu_channel_norm(nv_device *dev, const nv_channel_norm *a, nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    if (a->x.rows == 0) return NABLA_OK;
    const nv_chunks chunks = nv_cpu_chunks(a->x.rows, a->x.rows);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < chunks.count; i++)
        rows->channel_norm(a, nv_chunk_first(&chunks, i), nv_chunk_last(&chunks, i));
    return NABLA_OK;
}

nabla_status nv_cpu_upsample(nv_device *dev, const float *x, int32_t height, int32_t width, nv_matrix y,
                             nv_error *err) {
    (void)err;
    const nv_row_kernels *rows = nv_cpu_of(dev)->rows;
    const int64_t cols = y.cols;
    const size_t line = (size_t)(2 * width * cols) * nabla_dtype_size(y.dtype);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t h = 0; h < height; h++) {
        const nv_matrix from = nv_matrix_of(x + h * width * cols, NABLA_FP32, width, cols);
        unsigned char *to = (unsigned char *)y.data + (size_t)(2 * h) * line;
        nv_matrix every_other = nv_matrix_of(to, y.dtype, width, cols);
        every_other.stride = 2 * cols;
        rows->cast(from, every_other, 0, width);
        every_other.data = to + (size_t)cols * nabla_dtype_size(y.dtype);
        rows->cast(from, every_other, 0, width);
        memcpy(to + line, to, line);
    }
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A view of a matrix in a device's memory, the engine's everyday tensor: rows are tokens, columns are channels. */
#ifndef NV_MATRIX_H
#define NV_MATRIX_H

#include "nabla/nabla.h"

typedef struct nv_matrix {
    void *data;
    nabla_dtype dtype; /* NABLA_FP32 or NABLA_BF16 */
    int64_t rows, cols;
    int64_t stride; /* elements from row to row, >= cols; columns are contiguous */
} nv_matrix;

static inline nv_matrix nv_matrix_of(const void *data, nabla_dtype dtype, int64_t rows, int64_t cols) {
    nv_matrix m = {(void *)(uintptr_t)data, dtype, rows, cols, cols};
    return m;
}

static inline size_t nv_matrix_bytes(nv_matrix m) {
    return (size_t)(m.rows * m.stride) * (m.dtype == NABLA_FP32 ? 4 : 2);
}

/* Columns [first, first + cols) of m. */
static inline nv_matrix nv_matrix_cols(nv_matrix m, int64_t first, int64_t cols) {
    size_t size = m.dtype == NABLA_FP32 ? 4 : 2;
    m.data = m.data ? (unsigned char *)m.data + (size_t)first * size : NULL;
    m.cols = cols;
    return m;
}

/* Rows [first, first + rows) of m. */
static inline nv_matrix nv_matrix_rows(nv_matrix m, int64_t first, int64_t rows) {
    size_t size = m.dtype == NABLA_FP32 ? 4 : 2;
    m.data = m.data ? (unsigned char *)m.data + (size_t)(first * m.stride) * size : NULL;
    m.rows = rows;
    return m;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product of builds and machines without oneDNN's. Each task makes one block of C: panels of A and B are
   packed as fp32 (whatever their dtype and strides), multiplied in micro-tiles, summed over k in ascending order. The
   scheme is that of Goto and van de Geijn (2008). */
#include "device/cpu/cpu.h"
#include "tensor/bf16.h"
#include <omp.h>

enum { BLOCK_M = 96, BLOCK_N = 256, BLOCK_K = 256 }; /* multiples of the tile; 96 x 256 floats fill a tenth of an L2 */

typedef struct panels {
    float a[BLOCK_M * BLOCK_K], b[BLOCK_N * BLOCK_K], c[BLOCK_M * BLOCK_N];
} panels;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static float element(const void *data, int64_t i, nabla_dtype dtype) {
    return dtype == NABLA_BF16 ? nv_bf16_to_float(((const nv_bf16 *)data)[i]) : ((const float *)data)[i];
}

/* rows x k of a matrix into strips of `width` rows, k by k; missing rows are zero. */
static void pack(const void *data, nabla_dtype dtype, int64_t origin, int64_t row, int64_t col, int64_t rows, int64_t k,
                 int width, float *out) {
    for (int64_t strip = 0; strip < rows; strip += width, out += k * width) {
        const int64_t have = smaller(width, rows - strip), base = origin + strip * row;
        if (have < width) memset(out, 0, (size_t)(k * width) * sizeof *out);
        if (row == 1) {
            for (int64_t i = 0; i < k; i++)
                for (int64_t r = 0; r < have; r++)
                    out[i * width + r] = element(data, base + r + i * col, dtype);
        } else {
            for (int64_t r = 0; r < have; r++)
                for (int64_t i = 0; i < k; i++)
                    out[i * width + r] = element(data, base + r * row + i * col, dtype);
        }
    }
}

/* c[rows, cols] (stride BLOCK_N) += packed a times packed b. */
static void multiply(const nv_row_kernels *kernels, panels *w, int64_t rows, int64_t cols, int64_t k) {
    float tile[NV_TILE_ROWS * NV_TILE_COLS];
    for (int64_t j = 0; j < cols; j += NV_TILE_COLS)
        for (int64_t i = 0; i < rows; i += NV_TILE_ROWS) {
            kernels->product_tile(w->a + i * k, w->b + j * k, k, tile);
            for (int64_t r = 0; r < NV_TILE_ROWS; r++)
                for (int64_t c = 0; c < NV_TILE_COLS; c++)
                    w->c[(i + r) * BLOCK_N + j + c] += tile[r * NV_TILE_COLS + c];
        }
}

/* The block at element `origin` of C. */
static void store(const nv_product *p, const panels *w, int64_t origin, int64_t j0, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++) {
        const float *src = w->c + i * BLOCK_N;
        const int64_t at = origin + i * p->c_row;
        for (int64_t j = 0; j < cols; j++) {
            const float v = src[j] + (p->bias ? p->bias[j0 + j] : 0.0f);
            if (p->out == NABLA_BF16)
                ((nv_bf16 *)p->c)[at + j] = nv_bf16_from_float(v);
            else
                ((float *)p->c)[at + j] = v + (p->add ? ((float *)p->c)[at + j] : 0.0f);
        }
    }
}

nabla_status nv_own_product(struct nv_cpu *cpu, const nv_product *p, nv_error *err) {
    void *scratch;
    const int32_t threads = cpu->base.threads;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_PANELS, (size_t)threads * sizeof(panels), &scratch, err));
    const int64_t down = (p->m + BLOCK_M - 1) / BLOCK_M, across = (p->n + BLOCK_N - 1) / BLOCK_N;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < p->count * down * across; task++) {
        panels *w = (panels *)scratch + omp_get_thread_num();
        const int64_t i0 = task / across % down * BLOCK_M, j0 = task % across * BLOCK_N, one = task / across / down;
        const int64_t a0 = one * p->a_step + i0 * p->a_row, b0 = one * p->b_step + j0 * p->b_col;
        const int64_t rows = smaller(BLOCK_M, p->m - i0), cols = smaller(BLOCK_N, p->n - j0);
        memset(w->c, 0, sizeof w->c);
        for (int64_t k0 = 0; k0 < p->k; k0 += BLOCK_K) {
            const int64_t k = smaller(BLOCK_K, p->k - k0);
            pack(p->a, p->in, a0 + k0 * p->a_col, p->a_row, p->a_col, rows, k, NV_TILE_ROWS, w->a);
            pack(p->b, p->in, b0 + k0 * p->b_row, p->b_col, p->b_row, cols, k, NV_TILE_COLS, w->b);
            multiply(cpu->rows, w, rows, cols, k);
        }
        store(p, w, one * p->c_step + i0 * p->c_row + j0, j0, rows, cols);
    }
    return NABLA_OK;
}

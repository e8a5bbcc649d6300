/* SPDX-License-Identifier: Apache-2.0 */
/* The products of a linear layer, forward and backward: y = x w^T + bias as three calls of one product. */
#include "device/cpu/cpu.h"

static int on_tiles(const nv_cpu *cpu, nabla_dtype in) {
    return in == NABLA_BF16 && cpu->tiles;
}

static nabla_status multiply_on_tiles(nv_cpu *cpu, const nv_product *p, const nv_activation *act, nv_error *err) {
    const int32_t threads = cpu->base.threads;
    void *memory;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_PANELS, nv_tile_product_bytes(cpu->tiles, p, threads), &memory, err));
    nv_tile_product(cpu->tiles, p, act, threads, memory);
    return NABLA_OK;
}

/* act: of its sums, on tiles alone; NULL: none. */
static nabla_status multiply(nv_device *dev, const nv_product *p, const nv_activation *act, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    if (p->m == 0 || p->n == 0) return NABLA_OK;
    const nv_phase before = dev->ops->phase(dev, NV_PRODUCTS);
    nabla_status status = on_tiles(cpu, p->in)                   ? multiply_on_tiles(cpu, p, act, err)
                          : cpu->onednn_has[p->in == NABLA_BF16] ? nv_onednn_run(cpu->onednn, p, err)
                                                                 : nv_own_product(cpu, p, err);
    dev->ops->phase(dev, before);
    cpu->clock.product_flop += 2.0 * (double)p->count * (double)p->m * (double)p->n * (double)p->k;
    return status;
}

/* y = x w^T, or x w. */
static nv_product product_of(nv_matrix x, nv_matrix w, int transposed, nv_matrix y) {
    return (nv_product){.m = x.rows,
                        .n = transposed ? w.rows : w.cols,
                        .k = x.cols,
                        .in = x.dtype,
                        .out = y.dtype,
                        .a = x.data,
                        .a_row = x.stride,
                        .a_col = 1,
                        .b = w.data,
                        .b_row = transposed ? 1 : w.stride,
                        .b_col = transposed ? w.stride : 1,
                        .c = y.data,
                        .c_row = y.stride,
                        .count = 1};
}

static nv_product forward(nv_matrix x, nv_matrix w, const float *bias, nv_matrix y) {
    nv_product p = product_of(x, w, 1, y);
    p.bias = bias;
    return p;
}

nabla_status nv_cpu_linear(nv_device *dev, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, nv_error *err) {
    const nv_product p = forward(x, w, bias, y);
    return multiply(dev, &p, NULL, err);
}

nabla_status nv_cpu_linear_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix w, const float *bias,
                                    nv_matrix y, nv_error *err) {
    const nv_product p = forward(x, w, bias, y);
    if (on_tiles(nv_cpu_of(dev), x.dtype)) return multiply(dev, &p, &act, err);
    NV_TRY(multiply(dev, &p, NULL, err));
    return nv_cpu_activate(dev, act, y, y, err);
}

nabla_status nv_cpu_linear_backward_input(nv_device *dev, nv_matrix d_y, nv_matrix w, nv_matrix d_x, int add_to,
                                          nv_error *err) {
    nv_product p = product_of(d_y, w, 0, d_x);
    p.add = add_to;
    return multiply(dev, &p, NULL, err);
}

/* d_w += d_y^T x sums over all tokens into a small matrix. Cut into parts of at least PART tokens, whose sums are added
   up in order, it gives every thread tokens of its own to read once. A matrix too large for that (MOST_SUMS numbers
   for all parts) has rows enough for every thread. Parts by shape alone, so that the bits are the same for any number
   of threads. */
enum { PART = 2048, MOST_SUMS = 1 << 23 };

/* Of m x n sums over k tokens; below two: all at once. */
static int64_t parts_of(int64_t m, int64_t n, int64_t k) {
    const int64_t parts = k / PART;
    return parts * m * n > MOST_SUMS ? MOST_SUMS / (m * n) : parts;
}

static nabla_status multiply_parts(nv_device *dev, const nv_product *whole, int64_t parts, nv_error *err) {
    nv_cpu *cpu = nv_cpu_of(dev);
    const int64_t size = whole->m * whole->n, length = whole->k / parts;
    nv_product p = *whole;
    void *scratch;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_SUMS, (size_t)(parts * size) * sizeof(float), &scratch, err));
    const float *sums = scratch;
    float *d_w = whole->c;
    p.k = length;
    p.c = scratch;
    p.c_row = p.n;
    p.add = 0;
    p.count = parts;
    p.a_step = length * p.a_col;
    p.b_step = length * p.b_row;
    p.c_step = size;
    NV_TRY(multiply(dev, &p, NULL, err));
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t row = 0; row < whole->m; row++)
        for (int64_t i = 0; i < parts; i++)
            cpu->rows->add(d_w + row * whole->c_row, sums + i * size + row * whole->n, whole->n);
    return NABLA_OK;
}

/* The tokens that parts of equal length leave over. */
static nv_product rest_of(const nv_product *whole, int64_t parts) {
    nv_product p = *whole;
    const size_t size = nabla_dtype_size(p.in);
    const int64_t done = whole->k / parts * parts;
    p.k = whole->k - done;
    p.a = (const unsigned char *)p.a + (size_t)(done * p.a_col) * size;
    p.b = (const unsigned char *)p.b + (size_t)(done * p.b_row) * size;
    return p;
}

nabla_status nv_cpu_linear_backward_weight(nv_device *dev, nv_matrix d_y, nv_matrix x, float *d_w, float *d_bias,
                                           nv_error *err) {
    nv_product p = {.m = d_y.cols,
                    .n = x.cols,
                    .k = x.rows,
                    .in = x.dtype,
                    .out = NABLA_FP32,
                    .a = d_y.data,
                    .a_row = 1,
                    .a_col = d_y.stride,
                    .b = x.data,
                    .b_row = x.stride,
                    .b_col = 1,
                    .c = d_w,
                    .c_row = x.cols,
                    .add = 1,
                    .count = 1};
    const int64_t parts = parts_of(p.m, p.n, p.k);
    if (parts > 1) {
        NV_TRY(multiply_parts(dev, &p, parts, err));
        p = rest_of(&p, parts);
    }
    if (p.k > 0) NV_TRY(multiply(dev, &p, NULL, err));
    return d_bias ? nv_cpu_column_sums(dev, d_y, d_bias, err) : NABLA_OK;
}

/* oneDNN's is its own. */
static size_t memory_of(const nv_cpu *cpu, const nv_product *p, nabla_dtype in) {
    if (p->m == 0 || p->n == 0) return 0;
    if (on_tiles(cpu, in)) return nv_tile_product_bytes(cpu->tiles, p, cpu->base.threads);
    return cpu->onednn_has[in == NABLA_BF16] ? 0 : nv_own_product_bytes(cpu, p);
}

size_t nv_cpu_linear_memory(const nv_device *dev, nabla_dtype dtype, int64_t rows, int64_t in, int64_t out,
                            int backward) {
    const nv_cpu *cpu = (const nv_cpu *)(const void *)dev;
    const int64_t parts = parts_of(out, in, rows), count = parts > 1 ? parts : 1;
    const nv_product products[] = {{.m = rows, .n = out, .k = in, .out = dtype, .count = 1},
                                   {.m = rows, .n = in, .k = out, .out = dtype, .count = 1},
                                   {.m = out, .n = in, .k = rows / count, .out = NABLA_FP32, .count = count},
                                   {.m = out, .n = in, .k = rows % count, .out = NABLA_FP32, .count = 1}};
    size_t most = 0;
    for (int i = 0; i < (backward ? 4 : 1); i++) {
        const size_t bytes = memory_of(cpu, products + i, dtype);
        if (bytes > most) most = bytes;
    }
    return most + (backward && parts > 1 ? (size_t)(parts * out * in) * sizeof(float) : 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own matrix product. A task makes one block of C, for each piece of k: it packs its columns of B, and in turns as
 * many rows of A as fit the second-level cache, which each strip of B, in the first-level cache meanwhile, then meets.
 * The scheme is that of Goto and van de Geijn (2008).
 *
 * Pieces of k are cut by k alone, and each number is summed in ascending order: its bits depend neither on threads nor
 * on how C is cut into tasks.
 */
#include "device/cpu/cpu.h"
#include "device/cpu/sizes.h"
#include <omp.h>

enum {
    BLOCK_K = 256, /* at most of k: 16 KB of a strip of B */
    BLOCK_M = 192, /* rows of A packed at a time: 192 KB */
    MOST = 768,    /* rows or columns of a task: what is packed is used so often */
    LEAST = 96,    /* where a task is smaller for the sake of threads */
    TASKS = 8,     /* a thread, at least, where C is large enough */
    LINE = 16      /* numbers of a cache's line */
};

typedef struct layout {
    int64_t rows, cols, down, across; /* of a task; tasks of one of the products */
    int64_t piece;                    /* of k */
    int64_t a, b, sums;               /* numbers of a task's memory */
} layout;

/* Equal parts of `size` numbers, each at most `most`, in whole units. */
static int64_t part_of(int64_t size, int64_t most, int64_t unit) {
    return size ? nv_round_up(nv_ceil_of(size, nv_ceil_of(size, most)), unit) : 0;
}

static layout lay_out(const struct nv_cpu *cpu, const nv_product *p) {
    const nv_panel_kernels *kernels = cpu->rows->panels;
    const int64_t eight = 8; /* of k are turned at a time */
    layout l = {.rows = nv_smaller(MOST, p->m), .cols = nv_smaller(MOST, p->n)};
    while (p->count * nv_ceil_of(p->m, l.rows) * nv_ceil_of(p->n, l.cols) < (int64_t)TASKS * cpu->base.threads) {
        int64_t *larger = l.rows > l.cols ? &l.rows : &l.cols;
        if (*larger <= LEAST) break;
        *larger = nv_ceil_of(*larger, 2);
    }
    l.rows = part_of(p->m, l.rows, kernels->rows);
    l.cols = part_of(p->n, l.cols, kernels->cols);
    l.down = nv_ceil_of(p->m, l.rows);
    l.across = nv_ceil_of(p->n, l.cols);
    l.piece = part_of(p->k, BLOCK_K, eight);
    l.a = nv_round_up(nv_smaller(l.rows, BLOCK_M) * l.piece, LINE);
    l.b = nv_round_up(l.cols * l.piece, LINE);
    l.sums = nv_round_up(l.rows * l.cols, LINE);
    return l;
}

static size_t task_bytes(const layout *l) {
    return (size_t)(l->a + l->b + l->sums) * sizeof(float);
}

size_t nv_own_product_bytes(const struct nv_cpu *cpu, const nv_product *p) {
    const layout l = lay_out(cpu, p);
    return (size_t)cpu->base.threads * task_bytes(&l);
}

/* What a task has of one of the products. */
typedef struct block {
    int64_t one, row, col, rows, cols;
} block;

static block block_of(const nv_product *p, const layout *l, int64_t task) {
    const int64_t row = task / l->across % l->down * l->rows, col = task % l->across * l->cols;
    return (block){task / l->across / l->down, row, col, nv_smaller(l->rows, p->m - row),
                   nv_smaller(l->cols, p->n - col)};
}

static const void *number_at(const nv_product *p, const void *data, int64_t i) {
    return (const char *)data + i * (int64_t)nabla_dtype_size(p->in);
}

static nv_panel_source rows_of_a(const nv_product *p, const block *x, int64_t first, int64_t k0, int64_t k) {
    const int64_t at = x->one * p->a_step + (x->row + first) * p->a_row + k0 * p->a_col;
    return (nv_panel_source){.data = number_at(p, p->a, at),
                             .bf16 = p->in == NABLA_BF16,
                             .across = p->a_row,
                             .along = p->a_col,
                             .count = nv_smaller(BLOCK_M, x->rows - first),
                             .k = k};
}

static nv_panel_source columns_of_b(const nv_product *p, const block *x, int64_t k0, int64_t k) {
    const int64_t at = x->one * p->b_step + x->col * p->b_col + k0 * p->b_row;
    return (nv_panel_source){.data = number_at(p, p->b, at),
                             .bf16 = p->in == NABLA_BF16,
                             .across = p->b_col,
                             .along = p->b_row,
                             .count = x->cols,
                             .k = k};
}

/* Packed rows of A by packed columns of B; tiles: those of the first row. */
static void multiply(const nv_panel_kernels *kernels, const float *a, int64_t rows, const float *b, int64_t cols,
                     int64_t k, int32_t fresh, float *tiles) {
    const int64_t across = nv_ceil_of(cols, kernels->cols), down = nv_ceil_of(rows, kernels->rows);
    for (int64_t j = 0; j < across; j++)
        for (int64_t i = 0; i < down; i++)
            kernels->multiply(a + i * kernels->rows * k, b + j * kernels->cols * k, k, fresh,
                              tiles + (i * across + j) * kernels->rows * kernels->cols);
}

static void run_task(const nv_panel_kernels *kernels, const nv_product *p, const layout *l, int64_t task,
                     float *memory) {
    const block x = block_of(p, l, task);
    const int64_t across = nv_ceil_of(x.cols, kernels->cols);
    float *a = memory, *b = a + l->a, *tiles = b + l->b;
    int64_t k0 = 0;
    do { /* once where there is no k, for zeros */
        const int64_t k = nv_smaller(l->piece, p->k - k0);
        const nv_panel_source columns = columns_of_b(p, &x, k0, k);
        kernels->pack_b(&columns, b);
        for (int64_t first = 0; first < x.rows; first += BLOCK_M) {
            const nv_panel_source rows = rows_of_a(p, &x, first, k0, k);
            kernels->pack_a(&rows, a);
            multiply(kernels, a, rows.count, b, x.cols, k, k0 == 0, tiles + first * across * kernels->cols);
        }
        k0 += l->piece;
    } while (k0 < p->k);
    const int64_t at = x.one * p->c_step + x.row * p->c_row + x.col;
    kernels->store(&(nv_panel_sums){.tiles = tiles,
                                    .rows = x.rows,
                                    .cols = x.cols,
                                    .across = across,
                                    .c = (char *)p->c + at * (int64_t)nabla_dtype_size(p->out),
                                    .c_row = p->c_row,
                                    .bf16 = p->out == NABLA_BF16,
                                    .add = p->add,
                                    .bias = p->bias ? p->bias + x.col : NULL});
}

nabla_status nv_own_product(struct nv_cpu *cpu, const nv_product *p, nv_error *err) {
    const layout l = lay_out(cpu, p);
    const int32_t threads = cpu->base.threads;
    const int64_t numbers = (int64_t)(task_bytes(&l) / sizeof(float));
    void *scratch;
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_PANELS, (size_t)threads * task_bytes(&l), &scratch, err));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < p->count * l.down * l.across; task++)
        run_task(cpu->rows->panels, p, &l, task, (float *)scratch + omp_get_thread_num() * numbers);
    return NABLA_OK;
}

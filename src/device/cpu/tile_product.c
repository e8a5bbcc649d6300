/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a product on tiles is shared out. The smaller operand is packed once, by all threads, and read by all. A task has
 * up to STRIPS strips of the other one for its own, packs as much of them as fits the second-level cache, and
 * multiplies that by every strip of the shared operand, which so comes from afar once for 384 rows or columns. Where k
 * is longer than fits, the squares of a group of shared strips wait in the task's memory for the next part of k.
 *
 * Each number of C is summed over k in ascending order, whatever the threads and the tasks are.
 */
#include "device/cpu/tile_product.h"
#include "device/cpu/sizes.h"

#include <omp.h>
#include <stdbool.h>

/* On a core with 2 MB of second-level cache 12 strips are 2 % faster than 8, and no slower than 16. */
enum { STRIPS = 12 };
enum { TASKS = 4 /* a thread, at least, where there are strips enough */ };

/* Rows of A or columns of B. */
typedef struct operand {
    const char *data;
    int64_t count, across, along, step; /* numbers; step: from one of the products to the next */
    int64_t strips;
    void (*pack)(const nv_tile_source *from, char *strip);
} operand;

typedef struct layout {
    const nv_product *p;
    const nv_tile_kernels *kernels;
    const nv_activation *act;
    operand own, shared;
    bool own_is_b, streamed;
    int64_t k_steps, parts, part; /* steps of k; parts of k that are packed one by one, and the steps of each */
    int64_t group;                /* shared strips that a task's own are multiplied by for all of k */
    int64_t strips, tasks;        /* own ones of a task at most; tasks of one of the products */
    size_t strip_bytes;           /* of a shared one */
    size_t own_bytes, task_bytes; /* a task's packed strips, and behind them its squares */
    char *packed, *scratch;       /* shared strips; of each thread a task's memory */
} layout;

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static layout lay_out(const nv_product *p, const nv_tile_kernels *kernels, int32_t threads) {
    const operand a = {p->a, p->m, p->a_row, p->a_col, p->a_step, nv_ceil_of(p->m, NV_STRIP), kernels->pack_a};
    const operand b = {p->b, p->n, p->b_col, p->b_row, p->b_step, nv_ceil_of(p->n, NV_STRIP), kernels->pack_b};
    layout l = {.p = p, .kernels = kernels, .own_is_b = p->m < p->n};
    l.own = l.own_is_b ? b : a;
    l.shared = l.own_is_b ? a : b;
    l.streamed = p->m * p->n * (int64_t)nabla_dtype_size(p->out) > kernels->streamed;
    l.strips = nv_smaller(STRIPS, l.own.strips);
    while (l.strips > 1 && p->count * nv_ceil_of(l.own.strips, l.strips) < (int64_t)TASKS * threads)
        l.strips--;
    l.tasks = nv_ceil_of(l.own.strips, l.strips);
    l.k_steps = p->k > 0 ? nv_ceil_of(p->k, NV_STRIP) : 1; /* of zeros */
    l.parts = nv_ceil_of(l.k_steps, larger(kernels->strips_bytes / NV_STEP_BYTES / (l.strips + 2), 1));
    l.part = nv_ceil_of(l.k_steps, l.parts);
    l.group = l.shared.strips;
    if (l.parts > 1) l.group = nv_smaller(l.group, larger(2 * kernels->strips_bytes / NV_SQUARE_BYTES / l.strips, 1));
    l.strip_bytes = (size_t)l.k_steps * NV_STEP_BYTES;
    l.own_bytes = (size_t)(l.strips * l.part) * NV_STEP_BYTES;
    l.task_bytes = l.own_bytes + (size_t)(l.strips * (l.parts > 1 ? l.group : 2)) * NV_SQUARE_BYTES;
    return l;
}

static size_t packed_bytes(const layout *l) {
    return (size_t)(l->p->count * l->shared.strips) * l->strip_bytes;
}

/* Steps [first, first + steps) of a strip. */
static void pack(const layout *l, const operand *x, int64_t one, int64_t strip, int64_t first, int64_t steps,
                 char *out) {
    const int64_t row = strip * NV_STRIP, k = first * NV_STRIP;
    const int64_t at = one * x->step + row * x->across + k * x->along;
    const nv_tile_source from = {.data = x->data + at * (int64_t)sizeof(uint16_t),
                                 .across = x->across,
                                 .along = x->along,
                                 .count = (int32_t)nv_smaller(NV_STRIP, x->count - row),
                                 .k = nv_smaller(steps * NV_STRIP, l->p->k - k)};
    x->pack(&from, out);
}

/* Own strips of a task. */
typedef struct own_strips {
    int64_t one; /* of which product */
    int64_t first, count;
} own_strips;

/* Their squares by the shared strip `other`, which are whole now. */
static nv_tile_done done_of(const layout *l, const own_strips *own, int64_t other, const char *squares) {
    const nv_product *p = l->p;
    const int64_t row = (l->own_is_b ? other : own->first) * NV_STRIP,
                  col = (l->own_is_b ? own->first : other) * NV_STRIP;
    const int64_t at = own->one * p->c_step + row * p->c_row + col;
    return (nv_tile_done){.squares = squares,
                          .own_is_b = l->own_is_b,
                          .rows = (int32_t)nv_smaller((l->own_is_b ? 1 : own->count) * NV_STRIP, p->m - row),
                          .cols = (int32_t)nv_smaller((l->own_is_b ? own->count : 1) * NV_STRIP, p->n - col),
                          .c = (char *)p->c + at * (int64_t)nabla_dtype_size(p->out),
                          .dtype = p->out,
                          .row = p->c_row,
                          .bias = p->bias ? p->bias + col : NULL,
                          .add = p->add,
                          .act = l->act,
                          .streamed = l->streamed};
}

/* What is read of the shared operand after strip `other` of [from, to), in that part of k. */
static const char *shared_after(const layout *l, const own_strips *own, int64_t part, int64_t other, int64_t from,
                                int64_t to) {
    int64_t strip = other + 1;
    if (strip == to && part + 1 < l->parts) {
        strip = from;
        part++;
    } else if (strip == to) {
        part = 0;
    }
    strip = own->one * l->shared.strips + strip % l->shared.strips;
    return l->packed + (size_t)strip * l->strip_bytes + part * l->part * NV_STEP_BYTES;
}

/* A part of k of own strips, which are packed, by shared ones [from, to). In the last part squares that are whole are
   stored while the next are made. */
static void multiply_part(const layout *l, const own_strips *own, int64_t part, int64_t from, int64_t to,
                          char *memory) {
    const int64_t at = part * l->part, steps = nv_smaller(l->part, l->k_steps - at),
                  size = own->count * NV_SQUARE_BYTES;
    const char *shared = l->packed + (size_t)(own->one * l->shared.strips) * l->strip_bytes + at * NV_STEP_BYTES;
    nv_tile_done done = {0};
    for (int64_t other = from; other < to; other++) {
        char *squares = memory + l->own_bytes + (l->parts > 1 ? other - from : other % 2) * size;
        const nv_tile_block x = {.own = memory,
                                 .other = shared + (size_t)other * l->strip_bytes,
                                 .next = shared_after(l, own, part, other, from, to),
                                 .own_bytes = l->part * NV_STEP_BYTES,
                                 .steps = steps,
                                 .strips = (int32_t)own->count,
                                 .own_is_b = l->own_is_b,
                                 .squares = squares,
                                 .fresh = part == 0,
                                 .coming = part > 0 && other + 1 < to ? squares + size : NULL,
                                 .done = done.squares ? &done : NULL};
        l->kernels->multiply(&x);
        if (part == l->parts - 1) done = done_of(l, own, other, squares);
    }
    if (done.squares) l->kernels->store(&done);
}

static void run_task(const layout *l, int64_t task, char *memory) {
    const int64_t first = task % l->tasks * l->strips;
    const own_strips own = {task / l->tasks, first, nv_smaller(l->strips, l->own.strips - first)};
    for (int64_t from = 0; from < l->shared.strips; from += l->group)
        for (int64_t part = 0; part < l->parts; part++) {
            const int64_t at = part * l->part, steps = nv_smaller(l->part, l->k_steps - at);
            for (int64_t i = 0; i < own.count; i++)
                pack(l, &l->own, own.one, first + i, at, steps, memory + i * l->part * NV_STEP_BYTES);
            multiply_part(l, &own, part, from, nv_smaller(from + l->group, l->shared.strips), memory);
        }
}

/* Where C stays in the caches a thread always gets the same share of it, so that what reads it next, its rows shared
   out alike, finds them in its own: a sixth less time for the text encoder's softmax. Else who is done first goes on.
 */
static void run_tasks(const layout *l, char *memory) {
    const int64_t count = l->p->count * l->tasks;
    if (l->streamed) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < count; task++)
            run_task(l, task, memory);
    } else {
#pragma omp for schedule(static)
        for (int64_t task = 0; task < count; task++)
            run_task(l, task, memory);
    }
}

size_t nv_tile_product_bytes(const nv_tile_kernels *kernels, const nv_product *p, int32_t threads) {
    const layout l = lay_out(p, kernels, threads);
    return packed_bytes(&l) + (size_t)threads * l.task_bytes;
}

void nv_tile_product(const nv_tile_kernels *kernels, const nv_product *p, const nv_activation *act, int32_t threads,
                     void *memory) {
    layout l = lay_out(p, kernels, threads);
    l.act = act;
    l.packed = memory;
    l.scratch = l.packed + packed_bytes(&l);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < p->count * l.shared.strips; i++)
            pack(&l, &l.shared, i / l.shared.strips, i % l.shared.strips, 0, l.k_steps,
                 l.packed + (size_t)i * l.strip_bytes);
        kernels->begin();
        run_tasks(&l, l.scratch + (size_t)omp_get_thread_num() * l.task_bytes);
        kernels->end();
    }
}

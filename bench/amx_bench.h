/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that take level amx's kernels apart share: times, inputs, lines of CSV. */
#ifndef BENCH_AMX_BENCH_H
#define BENCH_AMX_BENCH_H

#include "amx.h"
#include "amx_tiles.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_DIM = 128 };

#define UNCHECKED -1.0

typedef void (*part_fn)(void *of);

/* A line of the report. */
typedef struct part {
    const char *name;
    part_fn run;
    void *of;
    int32_t dim, panels;
    int32_t products; /* of tiles, a pair */
    int32_t pairs;    /* a call */
    double ns, error; /* of a pair; the least of all rounds */
} part;

static const tile_config config = FULL_TILES;
static bool failed;

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

#ifdef NABLA_TILES_EMULATED
enum { ROUNDS = 1 };
static const double span_ns = 0; /* once is enough */
#else
enum { ROUNDS = 60 };
static const double span_ns = 4e6; /* of a line in a round */
#endif

enum { EACH = 1024 };

/* What the matrix unit does at most: EACH products of eight tiles' numbers that need no other's result at once. Of
   zeros it would do a fifth more, where the processor's power holds its clock. */
static void dots(void *numbers) {
    tile_load(4, numbers, 64);
    tile_load(5, (char *)numbers + TILE, 64);
    tile_load(6, (char *)numbers + 2 * TILE, 64);
    tile_load(7, (char *)numbers + 3 * TILE, 64);
    for (int i = 0; i < EACH / 4; i++) {
        tile_dot(0, 4, 6);
        tile_dot(1, 5, 6);
        tile_dot(2, 4, 7);
        tile_dot(3, 5, 7);
    }
}

/* The least of a few calls, in ns. */
static inline double time_of(part_fn run, void *of) {
    const double began = now_ns();
    double least = INFINITY;
    do {
        const double start = now_ns();
        run(of);
        least = fmin(least, now_ns() - start);
    } while (now_ns() - began < span_ns);
    return least;
}

/* Large blocks ask for huge pages, as the library's and the engine's do. */
static void *take(size_t bytes) {
    const size_t huge_page = (size_t)2 << 20, page = bytes < huge_page ? 4096 : huge_page;
    const size_t whole = (bytes + page - 1) / page * page;
    void *at = aligned_alloc(page, whole);
    if (!at) {
        fprintf(stderr, "no memory for %zu bytes\n", bytes);
        exit(2);
    }
    if (page == huge_page) madvise(at, whole, MADV_HUGEPAGE);
    return memset(at, 0, bytes);
}

static uint16_t *noise(size_t n) {
    uint16_t *x = take(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        const float f = (float)rand() / (float)RAND_MAX * 2 - 1;
        x[i] = (uint16_t)((uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(_mm_set_ss(f))) >> 16);
    }
    return x;
}

static double widen(uint16_t x) {
    return (double)_mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)((uint32_t)x << 16))));
}

/* Round after round all lines one after the other, so that what else the machine does falls on all of them alike. */
static inline void report(part *parts, size_t count) {
    double peak = INFINITY; /* ns of a product */
    uint16_t *const numbers = noise(4 * TILE / sizeof(uint16_t));
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < count; i++) {
            part *x = parts + i;
            if (i % 8 == 0) peak = fmin(peak, time_of(dots, numbers) / EACH);
            x->ns = fmin(round ? x->ns : INFINITY, time_of(x->run, x->of) / x->pairs);
        }
    free(numbers);
    printf("\"product of tiles\",,,%.2f,1,\n", peak);
    for (size_t i = 0; i < count; i++) {
        const part *x = parts + i;
        printf("\"%s\",%d,%d,%.1f,%.3f,", x->name, x->dim, x->panels, x->ns, x->products * peak / x->ns);
        if (x->error != UNCHECKED) printf("%.2e", x->error);
        printf("\n");
        if (!(x->error < 4e-3)) failed = true; /* bf16 has 8 bits */
    }
}

enum { SKIPPED = 77 }; /* an exit code that CTest tells from success and failure */

/* False, and a sentence said, where there are no tiles, or not the vector instructions that these programs are built
   of. A call of its own, so that none of those comes before it. */
static __attribute__((noinline)) bool ask_for_tiles(const char *program) {
    if (!__builtin_cpu_supports("avx512bf16")) {
        fprintf(stderr, "%s: skipped, this machine has no AVX-512 with bf16\n", program);
        return false;
    }
#ifndef NABLA_TILES_EMULATED
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) {
        fprintf(stderr, "%s: skipped, this machine has no AMX tiles, or its kernel does not lend them\n", program);
        return false;
    }
#endif
    return true;
}

static int verdict(void) {
    printf("%s\n", failed ? "FAILED: an error is too large" : "all results are right");
    return failed;
}

#endif

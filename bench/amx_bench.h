/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that take level amx's kernels apart share: times, inputs, lines of CSV. */
#ifndef BENCH_AMX_BENCH_H
#define BENCH_AMX_BENCH_H

#include "amx_singles.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_DIM = 128 };

#define UNCHECKED_ERROR -1.0

static const tile_config config = FULL_TILES;
static bool failed;
static double peak_ns; /* of a product of tiles */

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

#ifdef NABLA_TILES_EMULATED
static const double span_ns = 0, total_ns = 0; /* once is enough */
#else
static const double span_ns = 3e5, total_ns = 6e7; /* of one timing; of all of them, of which the least counts */
#endif

static double time_of(part_fn run, job *j) {
    double least = INFINITY, began = now_ns();
    int64_t times = 1;
    run(j);
    for (;;) {
        const double start = now_ns();
        for (int64_t i = 0; i < times; i++)
            run(j);
        const double spent = now_ns() - start;
        least = fmin(least, spent / (double)times);
        if (spent < span_ns)
            times = times * 2;
        else if (now_ns() - began > total_ns)
            return least;
    }
}

static void *take(size_t bytes) {
    void *at = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!at) {
        fprintf(stderr, "no memory for %zu bytes\n", bytes);
        exit(2);
    }
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

static void find_peak(void) {
    peak_ns = time_of(dots_4, NULL) / EACH;
}

static void print_pair(const char *name, int32_t dim, int32_t panels, int32_t tiles, double ns, double error) {
    printf("\"%s\",%d,%d,%.1f,%.3f,", name, dim, panels, ns, tiles * peak_ns / ns);
    if (error != UNCHECKED_ERROR) printf("%.2e", error);
    printf("\n");
    fflush(stdout);
    if (!(error < 4e-3)) failed = true; /* bf16 has 8 bits */
}

/* False, and a sentence said, where there are no tiles. */
static bool ask_for_tiles(const char *program) {
#ifndef NABLA_TILES_EMULATED
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) {
        fprintf(stderr, "%s: this machine has no AMX tiles, or its kernel does not lend them\n", program);
        return false;
    }
#endif
    (void)program;
    return true;
}

static int verdict(void) {
    printf("%s\n", failed ? "FAILED: an error is too large" : "all results are right");
    return failed;
}

#endif

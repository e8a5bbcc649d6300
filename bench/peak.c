/* SPDX-License-Identifier: Apache-2.0 */
/* bench_peak [THREADS]: what a core can do at most, GFLOP/s of independent chains of FMA, of bf16 dots and of products
   of tiles, the floor that kernels stand on; on THREADS cores at once (default 1), each core's share. CSV:
   instruction,threads,gflops. */
#include <stdio.h>

#if defined(__x86_64__)
#include "attention/cpu/amx_tiles.h"
#include "nabla/nabla.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHAINS = 12, STEPS = 1 << 20, TILE_CHAINS = 4, TILE_STEPS = 1 << 17, REPEATS = 10 };

/* A function that runs CHAINS chains of STEPS operations on vectors of type vec. */
#define LOOP(name, isa, vec, zero, step)                                    \
    __attribute__((target(isa))) static void name(void) {                   \
        vec sum[CHAINS], a = zero;                                          \
        for (int i = 0; i < CHAINS; i++)                                    \
            sum[i] = zero;                                                  \
        for (int n = 0; n < STEPS; n++) {                                   \
            __asm__ volatile("" : "+v"(a));                                 \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) step; \
        }                                                                   \
        for (int i = 0; i < CHAINS; i++)                                    \
            __asm__ volatile("" ::"v"(sum[i]));                             \
    }
LOOP(fma_ymm, "avx2,fma", __m256, _mm256_setzero_ps(), sum[i] = _mm256_fmadd_ps(a, a, sum[i]))
LOOP(fma_zmm, "avx512f", __m512, _mm512_setzero_ps(), sum[i] = _mm512_fmadd_ps(a, a, sum[i]))
LOOP(dot_zmm, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
     sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)a, (__m512bh)a))

__attribute__((target("amx-tile,amx-bf16"))) static void dot_tiles(void) {
    static const tile_config config = FULL_TILES;
    tile_configure(&config);
    tile_zero(4);
    tile_zero(5);
    tile_zero(6);
    tile_zero(7);
    for (int n = 0; n < TILE_STEPS; n++) {
        tile_dot(0, 4, 6);
        tile_dot(1, 4, 7);
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
    }
    tile_release();
}

/* Of one thread processor time: what others do on a shared machine does not count. */
static double seconds(int threads) {
    struct timespec now;
    if (threads == 1) return (double)clock() / CLOCKS_PER_SEC;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void report(const char *name, void (*loop)(void), double flops, int threads) {
    double least = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double start = seconds(threads);
#pragma omp parallel num_threads(threads)
        loop();
        const double time = seconds(threads) - start;
        least = time < least ? time : least;
    }
    printf("%s,%d,%.1f\n", name, threads, flops / least * 1e-9);
}

/* The library has asked the kernel for the tiles' state where it lists the level. */
static int has_level(const char *wanted) {
    for (int i = 0; nabla_level_name(i); i++)
        if (!strcmp(nabla_level_name(i), wanted)) return 1;
    return 0;
}

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const double steps = (double)CHAINS * STEPS, products = (double)TILE_CHAINS * TILE_STEPS;
    if (threads < 1) {
        fprintf(stderr, "bench_peak: '%s' threads; use a number from 1 up\n", argv[1]);
        return 2;
    }
    printf("instruction,threads,gflops\n");
    if (has_level("avx2")) report("fma_ymm", fma_ymm, 2 * 8 * steps, threads);
    if (has_level("avx512")) report("fma_zmm", fma_zmm, 2 * 16 * steps, threads);
    if (has_level("avx512bf16")) report("vdpbf16ps_zmm", dot_zmm, 4 * 16 * steps, threads);
    if (has_level("amx")) report("tdpbf16ps", dot_tiles, 2 * 16 * 16 * 32 * products, threads);
    return 0;
}
#else
int main(void) {
    printf("instruction,threads,gflops\n");
    return 0;
}
#endif

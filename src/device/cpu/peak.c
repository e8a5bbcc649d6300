/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cpu/peak.h"

#include "nabla/nabla.h"

#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REPEATS = 10 };
static const double settled = 0.25; /* seconds: by then each thread has a core to itself, where there are enough */

/* Of one thread processor time: what others do on a shared machine does not count. */
static double seconds(int32_t threads) {
    struct timespec now;
    if (threads == 1) return (double)clock() / CLOCKS_PER_SEC;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { CHAINS = 12, STEPS = 1 << 20, TILE_CHAINS = 4, TILE_STEPS = 1 << 17 };

/* A function that runs CHAINS chains of STEPS operations on vectors of type vec, all of `value`. Not of zeros: with
   them a processor takes less power, and where power holds its clock, it is faster than with anyone's numbers. */
#define LOOP(name, isa, vec, zero, value, step)                             \
    __attribute__((target(isa))) static void name(void) {                   \
        vec sum[CHAINS], a = value;                                         \
        for (int i = 0; i < CHAINS; i++)                                    \
            sum[i] = zero;                                                  \
        for (int n = 0; n < STEPS; n++) {                                   \
            __asm__ volatile("" : "+v"(a));                                 \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) step; \
        }                                                                   \
        for (int i = 0; i < CHAINS; i++)                                    \
            __asm__ volatile("" ::"v"(sum[i]));                             \
    }
#define SOME 0.7316f
#define SOME_BYTES 0x5d3a71c6
LOOP(fma_ymm, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_set1_ps(SOME), sum[i] = _mm256_fmadd_ps(a, a, sum[i]))
LOOP(fma_zmm, "avx512f", __m512, _mm512_setzero_ps(), _mm512_set1_ps(SOME), sum[i] = _mm512_fmadd_ps(a, a, sum[i]))
LOOP(bytes_zmm, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), _mm512_set1_epi32(SOME_BYTES),
     sum[i] = _mm512_dpbusd_epi32(sum[i], a, a))
LOOP(dot_zmm, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), _mm512_set1_ps(SOME),
     sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)a, (__m512bh)a))

/* Palette 1, then, from byte 16, bytes of a row, and from byte 48 rows of each tile: eight of 16 x 64. Loading it
   clears them. */
static const unsigned char full_tiles[64] = {1,         [16] = 64, [18] = 64, [20] = 64, [22] = 64, [24] = 64,
                                             [26] = 64, [28] = 64, [30] = 64, [48] = 16, 16,        16,
                                             16,        16,        16,        16,        16};

/* Numbers of both signs, from 2^-7 to 2. */
static void fill(uint16_t *bf16, size_t n) {
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        bf16[i] = (uint16_t)((state >> 16 & 0x83ffu) | 0x3c00u);
    }
}

__attribute__((target("amx-tile,amx-bf16"))) static void dot_tiles(void) {
    uint16_t numbers[4][16 * 32];
    fill(numbers[0], sizeof numbers / sizeof numbers[0][0]);
    _tile_loadconfig(full_tiles);
    _tile_loadd(4, numbers[0], 64);
    _tile_loadd(5, numbers[1], 64);
    _tile_loadd(6, numbers[2], 64);
    _tile_loadd(7, numbers[3], 64);
    for (int n = 0; n < TILE_STEPS; n++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

typedef struct loop {
    const char *level, *name;
    int32_t bits; /* of the numbers it multiplies */
    void (*run)(void);
    double flops;
} loop;

static const loop loops[] = {
    {"avx2", "fma_ymm", 32, fma_ymm, 2.0 * 8 * CHAINS *STEPS},
    {"avx512", "fma_zmm", 32, fma_zmm, 2.0 * 16 * CHAINS *STEPS},
    {"avx512vnni", "vpdpbusd_zmm", 8, bytes_zmm, 8.0 * 16 * CHAINS *STEPS},
    {"avx512bf16", "vdpbf16ps_zmm", 16, dot_zmm, 4.0 * 16 * CHAINS *STEPS},
    {"amx", "tdpbf16ps", 16, dot_tiles, 2.0 * 16 * 16 * 32 * TILE_CHAINS *TILE_STEPS},
};

/* For amx the library has then asked the kernel for the tiles' state. */
static bool has_level(const char *wanted) {
    for (int32_t i = 0; nabla_level_name(i); i++)
        if (!strcmp(nabla_level_name(i), wanted)) return true;
    return false;
}

static double rate_of(const loop *l, int32_t threads) {
    double least = 1e9, spent = 0.0;
    for (int i = 0; i < REPEATS || spent < settled; i++) {
        const double start = seconds(threads);
#pragma omp parallel num_threads(threads)
        l->run();
        const double time = seconds(threads) - start;
        least = time < least ? time : least;
        spent += time;
    }
    return l->flops / least * 1e-9;
}

static int32_t instruction_peaks(int32_t threads, nv_peak *out) {
    int32_t count = 0;
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++)
        if (has_level(loops[i].level))
            out[count++] =
                (nv_peak){loops[i].name, rate_of(&loops[i], threads), loops[i].bits == 8 ? "GOP/s" : "GFLOP/s"};
    return count;
}

double nv_cpu_peak(int32_t threads, nabla_dtype dtype) {
    double best = 0.0;
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        /* Where there is no dot product of bf16, or it is slow, it is computed in fp32. */
        if (loops[i].bits < (dtype == NABLA_FP32 ? 32 : 16) || !has_level(loops[i].level)) continue;
        const double rate = rate_of(&loops[i], threads);
        best = rate > best ? rate : best;
    }
    return best * threads;
}
#else
double nv_cpu_peak(int32_t threads, nabla_dtype dtype) {
    (void)threads;
    (void)dtype;
    return 0.0;
}

static int32_t instruction_peaks(int32_t threads, nv_peak *out) {
    (void)threads;
    (void)out;
    return 0;
}
#endif

enum { READ_WORDS = 8 << 20 /* 64 MB a thread, more than its share of any cache */ };

static volatile uint64_t last_sum; /* so that the sum is not left out */

static uint64_t sum_of(const uint64_t *x) {
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < READ_WORDS; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += x[i + j];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static bool read_peak(int32_t threads, nv_peak *out) {
    uint64_t *memory = malloc((size_t)threads * READ_WORDS * sizeof *memory);
    double least = 1e9;
    if (!memory) return false;
    for (int i = 0; i < REPEATS; i++) {
        const double start = seconds(threads);
#pragma omp parallel num_threads(threads)
        {
            uint64_t *mine = memory + (size_t)omp_get_thread_num() * READ_WORDS;
            if (i == 0) memset(mine, 1, READ_WORDS * sizeof *mine); /* on the node of the thread that reads it */
            const uint64_t sum = sum_of(mine);
#pragma omp critical
            last_sum = sum;
        }
        const double time = seconds(threads) - start;
        if (i > 0 && time < least) least = time;
    }
    free(memory);
    *out = (nv_peak){"read", (double)READ_WORDS * sizeof *memory / least * 1e-9, "GB/s"};
    return true;
}

int32_t nv_cpu_peaks(int32_t threads, nv_peak out[NV_PEAKS]) {
    int32_t count = instruction_peaks(threads, out);
    if (read_peak(threads, &out[count])) count++;
    return count;
}

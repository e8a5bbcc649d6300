/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cpu/peak.h"

#include "nabla/nabla.h"

#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
#include <cpuid.h>
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

/* A function that runs TILE_CHAINS chains of TILE_STEPS products of tiles; what are bytes to one are halves of numbers.
 */
#define TILE_LOOP(name, isa, dot)                                     \
    __attribute__((target("amx-tile," isa))) static void name(void) { \
        uint16_t numbers[4 * 16 * 32];                                \
        fill(numbers, sizeof numbers / sizeof *numbers);              \
        _tile_loadconfig(full_tiles);                                 \
        _tile_loadd(4, numbers, 64);                                  \
        _tile_loadd(5, numbers + 16 * 32, 64);                        \
        _tile_loadd(6, numbers + 2 * 16 * 32, 64);                    \
        _tile_loadd(7, numbers + 3 * 16 * 32, 64);                    \
        for (int n = 0; n < TILE_STEPS; n++) {                        \
            dot(0, 4, 6);                                             \
            dot(1, 4, 7);                                             \
            dot(2, 5, 6);                                             \
            dot(3, 5, 7);                                             \
        }                                                             \
        _tile_release();                                              \
    }
TILE_LOOP(dot_tiles, "amx-bf16", _tile_dpbf16ps)
TILE_LOOP(byte_tiles, "amx-int8", _tile_dpbusd)

static bool has_byte_tiles(void) {
    unsigned a, b, c, d;
    const unsigned amx_int8 = 1u << 25;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx_int8);
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
    {"amx", "tdpbusd", 8, byte_tiles, 2.0 * 16 * 16 * 64 * TILE_CHAINS *TILE_STEPS},
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
        if (has_level(loops[i].level) && (loops[i].run != byte_tiles || has_byte_tiles()))
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

/* ------------------------------------------------------------------ reading */

enum { READ_BYTES = 64 << 20 /* a thread: more than its share of any cache; read in all, in parts again and again */ };

static volatile uint64_t last_sum; /* so that the sum is not left out */

static uint64_t read_words(const char *at, size_t bytes) {
    const uint64_t *x = (const void *)at;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < bytes / sizeof *x; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += x[i + j];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

typedef uint64_t read_fn(const char *at, size_t bytes);

#if defined(__x86_64__)
/* Of whole registers: from a cache that is twice as fast. */
__attribute__((target("avx2"))) static uint64_t read_ymm(const char *at, size_t bytes) {
    __m256i sum[8] = {0};
    for (size_t i = 0; i < bytes; i += sizeof sum)
        _Pragma("GCC unroll 8") for (size_t j = 0; j < 8; j++) sum[j] =
            _mm256_xor_si256(sum[j], _mm256_loadu_si256((const __m256i *)(const void *)(at + i) + j));
    for (int j = 1; j < 8; j++)
        sum[0] = _mm256_xor_si256(sum[0], sum[j]);
    return (uint64_t)_mm256_extract_epi64(sum[0], 0) ^ (uint64_t)_mm256_extract_epi64(sum[0], 3);
}
__attribute__((target("avx512f"))) static uint64_t read_zmm(const char *at, size_t bytes) {
    __m512i sum[4] = {0};
    for (size_t i = 0; i < bytes; i += sizeof sum)
        _Pragma("GCC unroll 4") for (size_t j = 0; j < 4; j++) sum[j] =
            _mm512_xor_si512(sum[j], _mm512_loadu_si512((const __m512i *)(const void *)(at + i) + j));
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_xor_si512(sum[0] ^ sum[1], sum[2] ^ sum[3]));
}

static read_fn *reader(void) {
    return has_level("avx512") ? read_zmm : has_level("avx2") ? read_ymm : read_words;
}
#else
static read_fn *reader(void) {
    return read_words;
}
#endif

/* GB/s of a core when each thread reads its own `part` bytes until it has read READ_BYTES. */
static double read_rate(int32_t threads, char *memory, size_t part) {
    read_fn *const run = reader();
    double least = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double start = seconds(threads);
#pragma omp parallel num_threads(threads)
        {
            const char *mine = memory + (size_t)omp_get_thread_num() * READ_BYTES;
            uint64_t sum = 0;
            for (size_t left = READ_BYTES / part; left > 0; left--)
                sum ^= run(mine, part);
#pragma omp critical
            last_sum = sum;
        }
        const double time = seconds(threads) - start;
        least = time < least ? time : least;
    }
    return (double)(READ_BYTES / part * part) / least * 1e-9;
}

/* What the system says of a cache, in whole kilobytes; 0: nothing. */
static size_t cache_bytes(int level) {
    long bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
    bytes = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
#else
    (void)level;
#endif
    return bytes > 0 ? (size_t)bytes / 1024 * 1024 : 0;
}

/* From half a core's second-level cache; from four times that cache, where the third level holds as much for every
   thread; from memory. Returns how many of these there are. */
static int32_t read_peaks(int32_t threads, nv_peak *out) {
    const size_t l2 = cache_bytes(2), l3 = cache_bytes(3);
    char *memory = malloc((size_t)threads * READ_BYTES);
    int32_t count = 0;
    if (!memory) return 0;
#pragma omp parallel num_threads(threads) /* on the node of the thread that reads it */
    memset(memory + (size_t)omp_get_thread_num() * READ_BYTES, 1, READ_BYTES);
    if (l2 > 0 && l2 / 2 <= READ_BYTES) out[count++] = (nv_peak){"read_l2", read_rate(threads, memory, l2 / 2), "GB/s"};
    if (l2 > 0 && 4 * l2 <= READ_BYTES && (size_t)threads * 4 * l2 <= l3)
        out[count++] = (nv_peak){"read_l3", read_rate(threads, memory, 4 * l2), "GB/s"};
    out[count++] = (nv_peak){"read", read_rate(threads, memory, READ_BYTES), "GB/s"};
    free(memory);
    return count;
}

int32_t nv_cpu_peaks(int32_t threads, nv_peak out[NV_PEAKS]) {
    const int32_t count = instruction_peaks(threads, out);
    return count + read_peaks(threads, out + count);
}

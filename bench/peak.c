/* SPDX-License-Identifier: Apache-2.0 */
/* What one core can do at most: GFLOP/s of independent chains of FMA and of bf16 dots, the floor that kernels stand
   on. CSV: instruction,gflops. */
#include <stdio.h>

#if defined(__x86_64__)
#include <immintrin.h>
#include <time.h>

enum { CHAINS = 12, STEPS = 1 << 20, REPEATS = 20 };

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

/* Processor time: what others do on a shared machine does not count. */
static double seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static void report(const char *name, void (*loop)(void), int flops) {
    double least = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double start = seconds();
        loop();
        const double time = seconds() - start;
        least = time < least ? time : least;
    }
    printf("%s,%.1f\n", name, (double)CHAINS * STEPS * flops / least * 1e-9);
}

int main(void) {
    printf("instruction,gflops\n");
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) report("fma_ymm", fma_ymm, 2 * 8);
    if (__builtin_cpu_supports("avx512f")) report("fma_zmm", fma_zmm, 2 * 16);
    if (__builtin_cpu_supports("avx512bf16")) report("vdpbf16ps_zmm", dot_zmm, 4 * 16);
    return 0;
}
#else
int main(void) {
    printf("instruction,gflops\n");
    return 0;
}
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The vector vocabulary of the kernel templates (*.inc.h) in AVX2 and FMA. See simd_avx512.h; here D is a multiple of
   VL, so that a row has no partial vector and the _n forms take whole ones. */
#ifndef NABLA_SIMD_AVX2_H
#define NABLA_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "inline.h"

typedef __m256 vf;

/* On Zen 3, whose own prefetchers do not follow six rows at a time: without, a product at D = 128 waits for the third
   level of cache a quarter of its time and more. */
#define FETCH_AHEAD 1
/* A step is 12 multiply-adds and 8 loads, and counting steps one by one takes a tenth where another thread shares the
   core's front end. */
#define UNROLLED_STEPS UNROLLED_BY_4
#define TILE_WIDE 0 /* tiles of up to 2 vectors: 6 x 2 accumulators, 2 of B and a broadcast in 16 registers */
enum {
    VL = 8, /* lanes of a vector */
    SCORE_MR = 6
};

static inline vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline vf v_load_n(const float *p, int32_t n) {
    (void)n;
    return v_load(p);
}
static inline void v_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
static inline void v_store_n(float *p, int32_t n, vf x) {
    (void)n;
    v_store(p, x);
}
static inline vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf v_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline float v_sum(vf x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
static inline float v_top(vf x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
static inline uint32_t v_above(vf a, vf b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
static inline vf v_pick(uint32_t bits, vf a, vf b) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), lane), lane);
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(set));
}
/* As in simd_avx512.h, but results below 2^-126 are 0. The bounds' second operand is x: a NaN stays. */
static inline vf v_exp2(vf x) {
    x = _mm256_max_ps(v_set1(-127.0f), _mm256_min_ps(v_set1(128.0f), x));
    const vf n = _mm256_floor_ps(x), r = v_sub(x, n);
    vf p = v_fma(v_set1(1.867130570e-03f), r, v_set1(9.017029253e-03f));
    p = v_fma(p, r, v_set1(5.579991388e-02f));
    p = v_fma(p, r, v_set1(2.401644499e-01f));
    p = v_fma(p, r, v_set1(6.931513118e-01f));
    p = v_fma(p, r, v_set1(1.0f));
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return v_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
static inline vf v_load_bf16_n(const uint16_t *p, int32_t n) {
    (void)n;
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
static inline void v_store_bf16_n(uint16_t *p, int32_t n, vf x) {
    (void)n;
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i y = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(y, y), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(packed));
}

static inline uint32_t v_equal(vf a, vf b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
/* The lanes of x whose bits are set, first. AVX2 has no such instruction; pext gathers their numbers, a byte each. */
static inline vf v_compress(uint32_t bits, vf x) {
    const uint64_t lanes = _pdep_u64(bits, 0x0101010101010101u) * 0xff;
    const __m128i order = _mm_cvtsi64_si128((long long)_pext_u64(0x0706050403020100u, lanes));
    return _mm256_permutevar8x32_ps(x, _mm256_cvtepu8_epi32(order));
}
/* As in simd_avx512.h. */
typedef struct v_wide {
    __m256d low, high;
} v_wide;

static inline v_wide v_wide_zero(void) {
    return (v_wide){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
static inline void v_wide_add(v_wide *sum, uint32_t lanes, const float *p) {
    const vf x = v_pick(lanes, v_load(p), v_zero());
    sum->low = _mm256_add_pd(sum->low, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    sum->high = _mm256_add_pd(sum->high, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}
static inline double v_wide_sum(v_wide sum) {
    double part[4];
    _mm256_storeu_pd(part, _mm256_add_pd(sum.low, sum.high));
    return (part[0] + part[1]) + (part[2] + part[3]);
}
static inline void v_extend_bits(vf x, vf *least, vf *most) {
    *least = (vf)_mm256_min_epu32((__m256i)*least, (__m256i)x);
    *most = (vf)_mm256_max_epu32((__m256i)*most, (__m256i)x);
}
static inline uint32_t v_least_bits(vf x) {
    uint32_t bits[VL], least = UINT32_MAX;
    _mm256_storeu_si256((__m256i *)bits, (__m256i)x);
    for (int i = 0; i < VL; i++)
        least = bits[i] < least ? bits[i] : least;
    return least;
}
static inline uint32_t v_most_bits(vf x) {
    return ~v_least_bits((vf)_mm256_xor_si256((__m256i)x, _mm256_set1_epi32(-1)));
}
static inline vf v_add_up_to(vf sum, vf x, vf most) {
    return v_add(sum, _mm256_and_ps(x, _mm256_cmp_ps(x, most, _CMP_LE_OQ)));
}
static inline int32_t v_store_between(float *p, vf x, vf low, vf high) {
    const uint32_t inside = v_above(x, low) & ~v_above(x, high);
    v_store(p, v_compress(inside, x));
    return __builtin_popcount(inside);
}

#endif

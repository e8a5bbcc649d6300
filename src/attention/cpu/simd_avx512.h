/* SPDX-License-Identifier: Apache-2.0 */
/* The vector vocabulary of the kernel templates (*.inc.h) in AVX-512. A vf holds VL floats or, where a template works
   on words, VL 32-bit words: a float each, or a pair of bf16 with the lower index in the lower half. */
#ifndef NABLA_SIMD_AVX512_H
#define NABLA_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 vf;

#define TILE_WIDE 1 /* tiles of up to 4 vectors: 6 x 4 accumulators, 4 of B and a broadcast fill the 32 registers */
enum {
    VL = 16, /* lanes of a vector */
    SCORE_MR = 8
};

static inline __mmask16 first_lanes(int32_t n) {
    return (__mmask16)(n >= VL ? 0xffffu : (1u << n) - 1u);
}
static inline vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline vf v_load_n(const float *p, int32_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void v_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
static inline void v_store_n(float *p, int32_t n, vf x) {
    _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
static inline vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf v_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* The larger; b where either is NaN. */
static inline vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline float v_sum(vf x) {
    return _mm512_reduce_add_ps(x);
}
static inline float v_top(vf x) {
    return _mm512_reduce_max_ps(x);
}
/* One bit a lane: a > b, false for NaN. */
static inline uint32_t v_above(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
/* Lane i is a's where bit i is set, else b's. */
static inline vf v_pick(uint32_t bits, vf a, vf b) {
    return _mm512_mask_blend_ps((__mmask16)bits, b, a);
}
/* 2^x = 2^floor(x) p(x - floor(x)); p, with p(0) = 1, is within 8.3e-8 (relative). -inf gives 0; NaN stays. */
static inline vf v_exp2(vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf p = v_fma(v_set1(1.867130570e-03f), r, v_set1(9.017029253e-03f));
    p = v_fma(p, r, v_set1(5.579991388e-02f));
    p = v_fma(p, r, v_set1(2.401644499e-01f));
    p = v_fma(p, r, v_set1(6.931513118e-01f));
    p = v_fma(p, r, v_set1(1.0f));
    return _mm512_scalef_ps(p, x);
}
/* n (at most VL) bf16 widened, zero past n. */
static inline vf v_load_bf16_n(const uint16_t *p, int32_t n) {
    const __m256i x = _mm256_maskz_loadu_epi16(first_lanes(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
/* Rounds to nearest, ties to even; a NaN stays one. */
static inline void v_store_bf16_n(uint16_t *p, int32_t n, vf x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i y = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    y = _mm512_mask_or_epi32(y, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(_mm512_srli_epi32(y, 16)));
}

/* The sum of x[n], and the least and the largest of its floats' bits as unsigned numbers. */
static inline double v_survey(const float *x, int32_t n, uint32_t *least, uint32_t *most) {
    __m512i low = _mm512_set1_epi32(-1), high = _mm512_setzero_si512();
    __m512d sum0 = _mm512_setzero_pd(), sum1 = sum0;
    for (int32_t i = 0; i < n; i += VL) {
        const __mmask16 inside = first_lanes(n - i);
        const vf y = _mm512_maskz_loadu_ps(inside, x + i);
        low = _mm512_mask_min_epu32(low, inside, low, (__m512i)y);
        high = _mm512_max_epu32(high, (__m512i)y);
        sum0 = _mm512_add_pd(sum0, _mm512_cvtps_pd(_mm512_castps512_ps256(y)));
        sum1 = _mm512_add_pd(sum1, _mm512_cvtps_pd(_mm512_extractf32x8_ps(y, 1)));
    }
    *least = _mm512_reduce_min_epu32(low);
    *most = _mm512_reduce_max_epu32(high);
    return _mm512_reduce_add_pd(_mm512_add_pd(sum0, sum1));
}

/* Splits x[n] in order: floats whose bits, as an unsigned number, are at most pivot go to low, the others to high, each
   of room for n + VL. low may be x. Returns how many are low, and their sum. */
static inline int32_t v_split(const float *x, int32_t n, uint32_t pivot, float *low, float *high, double *sum) {
    const __m512i most = _mm512_set1_epi32((int)pivot);
    __m512d sum0 = _mm512_setzero_pd(), sum1 = sum0;
    int32_t lows = 0;
    for (int32_t i = 0; i < n; i += VL) {
        const vf y = v_load_n(x + i, n - i);
        const __mmask16 inside = first_lanes(n - i);
        const __mmask16 to_low = _mm512_mask_cmple_epu32_mask(inside, (__m512i)y, most);
        const __mmask16 to_high = (__mmask16)(inside & ~to_low);
        const vf mine = _mm512_maskz_mov_ps(to_low, y);
        v_store(low + lows, _mm512_maskz_compress_ps(to_low, y));
        v_store(high + (i - lows), _mm512_maskz_compress_ps(to_high, y));
        lows += __builtin_popcount(to_low);
        sum0 = _mm512_add_pd(sum0, _mm512_cvtps_pd(_mm512_castps512_ps256(mine)));
        sum1 = _mm512_add_pd(sum1, _mm512_cvtps_pd(_mm512_extractf32x8_ps(mine, 1)));
    }
    *sum = _mm512_reduce_add_pd(_mm512_add_pd(sum0, sum1));
    return lows;
}

static inline uint32_t v_equal(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

#endif

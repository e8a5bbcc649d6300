/* SPDX-License-Identifier: Apache-2.0 */
/* The vector vocabulary of the kernel templates (*.inc.h) in AVX-512. A vf holds VL floats or, where a template works
   on words, VL 32-bit words: a float each, or a pair of bf16 with the lower index in the lower half. */
#ifndef NABLA_SIMD_AVX512_H
#define NABLA_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 vf;

#define FETCH_AHEAD 0  /* 1: products fetch what comes next (tile.inc.h) */
#define UNROLLED_STEPS /* how the loop over a product's steps is unrolled; not here: up to 24 multiply-adds a step */
#define TILE_WIDE 1    /* tiles of up to 4 vectors: 6 x 4 accumulators, 4 of B and a broadcast fill the 32 registers */
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

/* Sums of doubles, two vectors of them: of the lanes of VL floats at p whose bits are set. Conversions read memory:
   from registers they and the extraction of an upper half all wait for one port of Intel's cores. */
typedef struct v_wide {
    __m512d low, high;
} v_wide;

static inline v_wide v_wide_zero(void) {
    return (v_wide){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
static inline void v_wide_add(v_wide *sum, uint32_t lanes, const float *p) {
    const __m512d low = _mm512_cvtps_pd(_mm256_loadu_ps(p)), high = _mm512_cvtps_pd(_mm256_loadu_ps(p + VL / 2));
    sum->low = _mm512_mask_add_pd(sum->low, (__mmask8)lanes, sum->low, low);
    sum->high = _mm512_mask_add_pd(sum->high, (__mmask8)(lanes >> VL / 2), sum->high, high);
}
static inline double v_wide_sum(v_wide sum) {
    return _mm512_reduce_add_pd(_mm512_add_pd(sum.low, sum.high));
}
/* Floats as bits, which order as they do where no sign is set; those of a NaN are above all numbers. */
static inline void v_extend_bits(vf x, vf *least, vf *most) {
    *least = (vf)_mm512_min_epu32((__m512i)*least, (__m512i)x);
    *most = (vf)_mm512_max_epu32((__m512i)*most, (__m512i)x);
}
static inline uint32_t v_least_bits(vf x) {
    return _mm512_reduce_min_epu32((__m512i)x);
}
static inline uint32_t v_most_bits(vf x) {
    return _mm512_reduce_max_epu32((__m512i)x);
}
/* sum + x in the lanes where x <= most. */
static inline vf v_add_up_to(vf sum, vf x, vf most) {
    return _mm512_mask_add_ps(sum, _mm512_cmp_ps_mask(x, most, _CMP_LE_OQ), sum, x);
}
/* Stores the lanes of x in (low, high] at p, of room for VL, in order; returns how many. */
static inline int32_t v_store_between(float *p, vf x, vf low, vf high) {
    const __mmask16 above = _mm512_cmp_ps_mask(x, low, _CMP_GT_OQ);
    const __mmask16 inside = _mm512_mask_cmp_ps_mask(above, x, high, _CMP_LE_OQ);
    v_store(p, _mm512_maskz_compress_ps(inside, x));
    return __builtin_popcount(inside);
}
static inline uint32_t v_equal(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

#endif

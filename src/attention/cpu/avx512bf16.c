/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bf16 by vdpbf16ps: products of pairs, P and dS rounded to bf16, everything else in fp32. Worth it where the dot runs
 * at least at the rate of fp32 FMA: AMD Zen 4 and Zen 5 (1 and 2 a cycle, like FMA). Intel's cores with AVX512_BF16
 * have it at half the FMA rate or less (one zmm in 2.1 cycles on Granite Rapids), where twice the work in twice the
 * time gains nothing and loses P's precision; there level avx512 is the better one, so detect.c asks for the vendor.
 */
#include "simd_avx512.h"

#define PAIRED 1

static inline vf v_dot(vf sum, vf a, vf b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
/* 2 * VL floats as bf16 in order. */
static inline vf v_narrow(vf low, vf high) {
    return (vf)_mm512_cvtne2ps_pbh(high, low);
}
/* Lane i: the pair (even[i], odd[i]). */
static inline vf v_pair(vf even, vf odd) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vf)_mm512_permutexvar_epi16(order, (__m512i)v_narrow(even, odd));
}
/* The same of bf16 in memory: n_even and n_odd (at most VL) of them, zero past these. */
static inline vf v_join(const uint16_t *even, const uint16_t *odd, int32_t n_even, int32_t n_odd) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n_even), even));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n_odd), odd));
    return (vf)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

#include "backward.inc.h"
#include "forward.inc.h"

static NABLA_DECL_PACK(pack_k_bf16_avx512bf16) {
    fill_rows(x, NABLA_BF16, first, last - first, head_dim, piece_at(packed, piece, head_dim));
}
static NABLA_DECL_PACK(pack_v_bf16_avx512bf16) {
    fill_cols(x, NABLA_BF16, first, last - first, head_dim, piece_at(packed, piece, head_dim));
}
static NABLA_DECL_FORWARD(forward_bf16_avx512bf16) {
    forward(task, NABLA_BF16);
}

static NABLA_DECL_BACKWARD(backward_kv_bf16_avx512bf16) {
    backward_kv(task, NABLA_BF16);
}
static NABLA_DECL_BACKWARD(backward_q_bf16_avx512bf16) {
    backward_q(task, NABLA_BF16);
}

void nabla_kernels_avx512bf16(nabla_kernels *table) {
    table->of[NABLA_BF16].forward.pack_k = pack_k_bf16_avx512bf16;
    table->of[NABLA_BF16].forward.pack_v = pack_v_bf16_avx512bf16;
    table->of[NABLA_BF16].forward.run = forward_bf16_avx512bf16;
    table->of[NABLA_BF16].forward.packed_size = packed_size;
    table->of[NABLA_BF16].forward.scratch = forward_scratch_size;
    table->of[NABLA_BF16].backward_kv = backward_kv_bf16_avx512bf16;
    table->of[NABLA_BF16].backward_q = backward_q_bf16_avx512bf16;
    table->of[NABLA_BF16].backward_scratch = backward_scratch_size;
    table->of[NABLA_BF16].ds_size = DS_SIZE;
}

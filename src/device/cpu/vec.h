/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eight or sixteen floats at a time in the compilers' vector extension (GCC, Clang): the same source becomes SSE2, AVX2
 * or AVX-512 by the flags of the file that includes it; intrinsics only where GCC makes no use of an instruction.
 * Pieces shorter than that are loaded with zeros behind.
 */
#ifndef NV_VEC_H
#define NV_VEC_H

#include "tensor/bf16.h"
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Floats in one register. */
#ifdef __AVX512F__
#define NV_REGISTER 16
#elif defined(__AVX__)
#define NV_REGISTER 8
#else
#define NV_REGISTER 4
#endif

/* Of AVX2 one register, too: vectors of two go through memory number by number, wherever lanes move or are chosen. */
#if NV_REGISTER == 16
#define NV_LANES 16
#define NV_LANE_NUMBERS \
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }
#define NV_PAIRS(i, j) \
    i, j, 2 + i, 2 + j, 4 + i, 4 + j, 6 + i, 6 + j, 8 + i, 8 + j, 10 + i, 10 + j, 12 + i, 12 + j, 14 + i, 14 + j
#else
#define NV_LANES 8
#define NV_LANE_NUMBERS \
    { 0, 1, 2, 3, 4, 5, 6, 7 }
#define NV_PAIRS(i, j) i, j, 2 + i, 2 + j, 4 + i, 4 + j, 6 + i, 6 + j
#endif

/* Each pair of lanes (0, 1) becomes (i, j). */
#define vpairs(v, i, j) __builtin_shufflevector(v, v, NV_PAIRS(i, j))

typedef float vf __attribute__((vector_size(4 * NV_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * NV_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * NV_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * NV_LANES)));
typedef float vf8 __attribute__((vector_size(32)));
typedef uint32_t vu8 __attribute__((vector_size(32)));
typedef uint16_t vh8 __attribute__((vector_size(16)));
typedef uint64_t vl2 __attribute__((vector_size(16)));
typedef float vf4 __attribute__((vector_size(16)));

#define NV_INLINE static inline __attribute__((always_inline))

NV_INLINE vf vset(float x) {
    return x - (vf){0};
}

NV_INLINE vf vselect(vi mask, vf a, vf b) {
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

NV_INLINE vf vmin(vf a, vf b) {
#ifdef __AVX512F__
    return _mm512_min_ps(a, b);
#else
    return vselect(a < b, a, b);
#endif
}

NV_INLINE vf vmax(vf a, vf b) {
#ifdef __AVX512F__
    return _mm512_max_ps(a, b);
#else
    return vselect(a > b, a, b);
#endif
}

/* 1 / x for normal x: to a rounding or two where an estimate and a Newton step are quicker than a division. */
NV_INLINE vf vreciprocal(vf x) {
#ifdef __AVX512F__
    vf r = _mm512_rcp14_ps(x);
    return r + r * (1.0f - x * r);
#else
    return 1.0f / x;
#endif
}

/* Sum of the lanes, as a tree: of sixteen (0 + 8) + (4 + 12) ... */
NV_INLINE float vsum(vf v) {
#if NV_LANES == 16
    vf8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
            __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    vf8 a = v;
#endif
    vf4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}

/* The first n lanes of v, zeros behind. */
NV_INLINE vf vfirst(vf v, int n) {
    const vi lane = NV_LANE_NUMBERS;
    return n == NV_LANES ? v : vselect(lane < n, v, vset(0.0f));
}

/* How many of a row's `cols` are left for the piece at c. */
NV_INLINE int vleft(int64_t cols, int64_t c) {
    return cols - c < NV_LANES ? (int)(cols - c) : NV_LANES;
}

/* Unaligned pieces in memory. */
typedef vf vf_memory __attribute__((aligned(4), may_alias));
typedef vh vh_memory __attribute__((aligned(2), may_alias));

/* The rare short pieces stay out of line, so that whole ones never pass through the stack. */
static __attribute__((noinline, cold)) void vload_short(void *out, const void *p, size_t bytes) {
    memset(out, 0, sizeof(vf));
    memcpy(out, p, bytes);
}

static __attribute__((noinline, cold)) void vstore_short(void *p, const void *v, size_t bytes) {
    memcpy(p, v, bytes);
}

NV_INLINE vf vload_f32(const float *p, int n) {
    if (__builtin_expect(n == NV_LANES, 1)) return *(const vf_memory *)p;
    vf v;
    vload_short(&v, p, (size_t)n * sizeof *p);
    return v;
}

NV_INLINE void vstore_f32(float *p, vf v, int n) {
    if (__builtin_expect(n == NV_LANES, 1))
        *(vf_memory *)p = v;
    else
        vstore_short(p, &v, (size_t)n * sizeof *p);
}

NV_INLINE vf vwiden(vh h) {
#ifdef __AVX512F__
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

/* Rounds as nv_bf16_from_float does; the instruction also takes numbers below 2^-126 for 0. */
NV_INLINE vh vnarrow(vf v) {
#ifdef __AVX512BF16__
    return (vh)_mm512_cvtneps_pbh(v);
#else
    vu u = (vu)v;
    vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    vu nan = (vu)(v != v);
    rounded = (nan & ((u >> 16) | 0x40u)) | (~nan & rounded);
#ifdef __AVX512F__
    return (vh)_mm512_cvtepi32_epi16((__m512i)rounded);
#else
    return __builtin_convertvector(rounded, vh);
#endif
#endif
}

NV_INLINE vf vload_bf16(const nv_bf16 *p, int n) {
    if (__builtin_expect(n == NV_LANES, 1)) return vwiden(*(const vh_memory *)p);
    nv_bf16 h[2 * NV_LANES];
    vload_short(h, p, (size_t)n * sizeof *p);
    return vwiden(*(const vh_memory *)h);
}

NV_INLINE void vstore_bf16(nv_bf16 *p, vf v, int n) {
    vh h = vnarrow(v);
    if (__builtin_expect(n == NV_LANES, 1))
        *(vh_memory *)p = h;
    else
        vstore_short(p, &h, (size_t)n * sizeof *p);
}

/* n numbers at element i of an array of fp32 or bf16; `bf16` is a constant where these are inlined. */
NV_INLINE vf vload(const void *p, int64_t i, int n, int bf16) {
    return bf16 ? vload_bf16((const nv_bf16 *)p + i, n) : vload_f32((const float *)p + i, n);
}

NV_INLINE void vstore(void *p, int64_t i, vf v, int n, int bf16) {
    if (bf16)
        vstore_bf16((nv_bf16 *)p + i, v, n);
    else
        vstore_f32((float *)p + i, v, n);
}

/* e^x to 2 ulp for x in [-87, 88]; clamped outside. 2^n * e^r with |r| <= ln(2) / 2. */
NV_INLINE vf vexp(vf x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
    x = vmax(vmin(x, vset(88.0f)), vset(-87.0f));
    vf t = x * 1.44269504f + magic;
    vf n = t - magic;
    vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = vset(1.0f / 720.0f);
    p = p * r + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (vf)((vi)p + ((vi)t << 23));
}

#endif

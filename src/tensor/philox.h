/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of Philox 4x32-10 and of normals made of it, for C and CUDA alike. No libm but the square root, which
   is exact, and no fused multiply-add (CUDA files that include this are compiled without): the bits are the same at any
   vector width and on any machine. */
#ifndef NV_PHILOX_H
#define NV_PHILOX_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define NV_PHILOX_FN static __host__ __device__ __forceinline__
#else
#define NV_PHILOX_FN static inline
#endif

enum { NV_PHILOX_ROUNDS = 10, NV_PHILOX_WORDS = 4 };

NV_PHILOX_FN void nv_philox_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0, uint32_t k1) {
    const uint64_t p0 = (uint64_t)0xD2511F53u * *c0, p1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(p1 >> 32) ^ *c1 ^ k0;
    *c1 = (uint32_t)p1;
    *c2 = (uint32_t)(p0 >> 32) ^ *c3 ^ k1;
    *c3 = (uint32_t)p0;
}

NV_PHILOX_FN void nv_philox_next_key(uint32_t *k0, uint32_t *k1) {
    *k0 += 0x9E3779B9u;
    *k1 += 0xBB67AE85u;
}

NV_PHILOX_FN void nv_philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < NV_PHILOX_WORDS; i++)
        out[i] = counter[i];
    for (int r = 0; r < NV_PHILOX_ROUNDS; r++) {
        nv_philox_round(&out[0], &out[1], &out[2], &out[3], k0, k1);
        nv_philox_next_key(&k0, &k1);
    }
}

NV_PHILOX_FN uint32_t nv_philox_bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

NV_PHILOX_FN float nv_philox_float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* -ln(u) for u in (0, 1], normal. u = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1) / (m + 1)), its
   odd series cut after s^9 (relative error 2e-9). Within 2 ulp; exactly 0 at 1. */
NV_PHILOX_FN float nv_philox_minus_log(float u) {
    uint32_t shifted = nv_philox_bits_of(u) - 0x3f3504f3u; /* sqrt(1/2) */
    float e = (float)((int32_t)shifted >> 23);
    float m = nv_philox_float_of((shifted & 0x7fffffu) + 0x3f3504f3u);
    float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    float series = 2.0f + z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9))));
    return -(e * 0.693147180559945f + s * series);
}

/* sin and cos of the turn word / 2^32: two bits choose the quarter, the others an angle in [-pi/4, pi/4), where
   Taylor's series to x^9 and x^10 err by less than 2e-9. Absolute error below 1.2e-7. */
NV_PHILOX_FN void nv_philox_sin_cos_turn(uint32_t word, float *sine, float *cosine) {
    uint32_t nearest = word + 0x20000000u; /* so that the rest is signed, around the quarter's middle */
    uint32_t quarter = nearest >> 30;
    float x = (float)((int32_t)(word - (quarter << 30))) * (1.57079632679489662f * 0x1p-30f);
    float z = x * x;
    float s = x * (1.0f + z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880)))));
    float c = 1.0f + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320 + z * (-1.0f / 3628800)))));
    uint32_t swap = 0u - (quarter & 1u), sb = nv_philox_bits_of(s), cb = nv_philox_bits_of(c);
    *sine = nv_philox_float_of(((sb & ~swap) | (cb & swap)) ^ ((quarter & 2u) << 30));
    *cosine = nv_philox_float_of(((cb & ~swap) | (sb & swap)) ^ (((quarter + 1u) & 2u) << 30));
}

/* Two normals of two words: Box-Muller. (word + 1/2) / 2^32 lies in (0, 1], so that no radius exceeds 6.8. */
NV_PHILOX_FN void nv_philox_pair(uint32_t radius, uint32_t turn, float *a, float *b) {
    /* signed conversion of half the word: the only one that old vector units have */
    float u = ((float)(int32_t)(radius >> 1) + 0.25f) * 0x1p-31f;
    float r = sqrtf(2.0f * nv_philox_minus_log(u)), s, c;
    nv_philox_sin_cos_turn(turn, &s, &c);
    *a = r * c;
    *b = r * s;
}

#endif

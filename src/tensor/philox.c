/* SPDX-License-Identifier: Apache-2.0 */
/* Philox 4x32-10: "Parallel random numbers: as easy as 1, 2, 3", Salmon, Moraes, Dror and Shaw, SC 2011. */
#include "tensor/random.h"

#include <math.h>
#include <string.h>

/* Blocks made at once: the loops over lanes have no dependency, so that compilers vectorise them. No fused
   multiply-add and no libm in here, so the bits are the same at any vector width and on any machine. */
enum { ROUNDS = 10, LANES = 64, WORDS = 4 };

static const uint32_t multiplier[2] = {0xD2511F53u, 0xCD9E8D57u};
static const uint32_t weyl[2] = {0x9E3779B9u, 0xBB67AE85u};

nv_philox nv_philox_at(uint64_t seed, uint64_t stream) {
    nv_philox g = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                   .counter = {0, 0, (uint32_t)stream, (uint32_t)(stream >> 32)},
                   .used = WORDS};
    return g;
}

static uint64_t position_of(const nv_philox *g) {
    return (uint64_t)g->counter[1] << 32 | g->counter[0];
}

static void set_position(nv_philox *g, uint64_t position) {
    g->counter[0] = (uint32_t)position;
    g->counter[1] = (uint32_t)(position >> 32);
}

static void one_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t p0 = (uint64_t)multiplier[0] * c0, p1 = (uint64_t)multiplier[1] * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += weyl[0];
        k1 += weyl[1];
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t nv_philox_u32(nv_philox *g) {
    if (g->used == WORDS) {
        one_block(g->counter, g->key, g->block);
        set_position(g, position_of(g) + 1);
        g->used = 0;
    }
    return g->block[g->used++];
}

float nv_philox_uniform(nv_philox *g) {
    return (float)(nv_philox_u32(g) >> 8) * 0x1p-24f;
}

/* Lemire 2019, "Fast random integer generation in an interval": the high word of a product, rejecting the few low
   words that would make some results likelier. */
uint32_t nv_philox_below(nv_philox *g, uint32_t n) {
    uint64_t product = (uint64_t)nv_philox_u32(g) * n;
    if ((uint32_t)product < n) {
        uint32_t reject = (0u - n) % n;
        while ((uint32_t)product < reject) {
            product = (uint64_t)nv_philox_u32(g) * n;
        }
    }
    return (uint32_t)(product >> 32);
}

/* ------------------------------------------------------------------ many blocks at once */

/* The blocks at position, position + 1, ... as words[word][lane]. */
static void blocks_at(const nv_philox *g, uint64_t position, uint32_t words[WORDS][LANES]) {
    for (int i = 0; i < LANES; i++) {
        uint64_t p = position + (uint64_t)i;
        words[0][i] = (uint32_t)p;
        words[1][i] = (uint32_t)(p >> 32);
        words[2][i] = g->counter[2];
        words[3][i] = g->counter[3];
    }
    uint32_t k0 = g->key[0], k1 = g->key[1];
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < LANES; i++) {
            uint64_t p0 = (uint64_t)multiplier[0] * words[0][i], p1 = (uint64_t)multiplier[1] * words[2][i];
            words[0][i] = (uint32_t)(p1 >> 32) ^ words[1][i] ^ k0;
            words[1][i] = (uint32_t)p1;
            words[2][i] = (uint32_t)(p0 >> 32) ^ words[3][i] ^ k1;
            words[3][i] = (uint32_t)p0;
        }
        k0 += weyl[0];
        k1 += weyl[1];
    }
}

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* -ln(u) for u in (0, 1], normal. u = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1) / (m + 1)), its
   odd series cut after s^9 (relative error 2e-9). Within 2 ulp; exactly 0 at 1. */
static float minus_log(float u) {
    uint32_t shifted = bits_of(u) - 0x3f3504f3u; /* sqrt(1/2) */
    float e = (float)((int32_t)shifted >> 23);
    float m = float_of((shifted & 0x7fffffu) + 0x3f3504f3u);
    float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    float series = 2.0f + z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9))));
    return -(e * 0.693147180559945f + s * series);
}

/* sin and cos of the turn word / 2^32: two bits choose the quarter, the others an angle in [-pi/4, pi/4), where
   Taylor's series to x^9 and x^10 err by less than 2e-9. Absolute error below 1.2e-7. */
static void sin_cos_turn(uint32_t word, float *sine, float *cosine) {
    uint32_t nearest = word + 0x20000000u; /* so that the rest is signed, around the quarter's middle */
    uint32_t quarter = nearest >> 30;
    float x = (float)((int32_t)(word - (quarter << 30))) * (1.57079632679489662f * 0x1p-30f);
    float z = x * x;
    float s = x * (1.0f + z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880)))));
    float c = 1.0f + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320 + z * (-1.0f / 3628800)))));
    uint32_t swap = 0u - (quarter & 1u), sb = bits_of(s), cb = bits_of(c);
    *sine = float_of(((sb & ~swap) | (cb & swap)) ^ ((quarter & 2u) << 30));
    *cosine = float_of(((cb & ~swap) | (sb & swap)) ^ (((quarter + 1u) & 2u) << 30));
}

/* Words 0, 1 make one pair of normals and words 2, 3 the other: Box-Muller. (word + 1/2) / 2^32 lies in (0, 1], so
   that no radius exceeds 6.8. */
static void normals_of_blocks(uint32_t words[WORDS][LANES], float *out) {
    float normal[WORDS][LANES];
    for (int pair = 0; pair < WORDS; pair += 2) {
        for (int i = 0; i < LANES; i++) {
            /* signed conversion of half the word: the only one that old vector units have */
            float u = ((float)(int32_t)(words[pair][i] >> 1) + 0.25f) * 0x1p-31f;
            float r = sqrtf(2.0f * minus_log(u)), s, c;
            sin_cos_turn(words[pair + 1][i], &s, &c);
            normal[pair][i] = r * c;
            normal[pair + 1][i] = r * s;
        }
    }
    for (int i = 0; i < LANES; i++) {
        for (int w = 0; w < WORDS; w++) {
            out[i * WORDS + w] = normal[w][i];
        }
    }
}

void nv_philox_normal(nv_philox *g, float *out, size_t n) {
    uint32_t words[WORDS][LANES];
    float rest[LANES * WORDS];
    uint64_t position = position_of(g);
    for (size_t done = 0; done < n; done += LANES * WORDS) {
        size_t left = n - done;
        blocks_at(g, position + done / WORDS, words);
        if (left >= LANES * WORDS) {
            normals_of_blocks(words, out + done);
        } else {
            normals_of_blocks(words, rest);
            memcpy(out + done, rest, left * sizeof *out);
        }
    }
    set_position(g, position + n / WORDS + (n % WORDS != 0));
    g->used = WORDS;
}

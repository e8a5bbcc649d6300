/* SPDX-License-Identifier: Apache-2.0 */
/* torch.randn on the CPU: the Mersenne twister (Matsumoto and Nishimura 1998) and the two ways in which torch makes
   normals of it: sixteen at a time in fp32, or, for fewer than sixteen, one by one in fp64. */
#include "tensor/random.h"

#include <math.h>

enum { MT_SIZE = 624, MT_SHIFT = 397, GROUP = 16 };

static const double two_pi = 6.283185307179586476925286766559;

typedef struct twister {
    uint32_t state[MT_SIZE];
    int next;
} twister;

static void twister_seed(twister *t, uint32_t seed) {
    t->state[0] = seed;
    for (uint32_t i = 1; i < MT_SIZE; i++) {
        uint32_t last = t->state[i - 1];
        t->state[i] = 1812433253u * (last ^ (last >> 30)) + i;
    }
    t->next = MT_SIZE;
}

static uint32_t twister_mix(uint32_t high, uint32_t low, uint32_t far) {
    uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return far ^ (y >> 1) ^ ((low & 1u) ? 0x9908b0dfu : 0u);
}

static void twister_refill(twister *t) {
    uint32_t *s = t->state;
    for (int i = 0; i < MT_SIZE - MT_SHIFT; i++) {
        s[i] = twister_mix(s[i], s[i + 1], s[i + MT_SHIFT]);
    }
    for (int i = MT_SIZE - MT_SHIFT; i < MT_SIZE - 1; i++) {
        s[i] = twister_mix(s[i], s[i + 1], s[i + MT_SHIFT - MT_SIZE]);
    }
    s[MT_SIZE - 1] = twister_mix(s[MT_SIZE - 1], s[0], s[MT_SHIFT - 1]);
    t->next = 0;
}

static uint32_t twister_u32(twister *t) {
    if (t->next == MT_SIZE) twister_refill(t);
    uint32_t y = t->state[t->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static float uniform_f32(twister *t) {
    return (float)(twister_u32(t) & 0xffffffu) * 0x1p-24f;
}

static double uniform_f64(twister *t) {
    uint64_t high = twister_u32(t);
    uint64_t bits = (high << 32 | twister_u32(t)) & ((UINT64_C(1) << 53) - 1);
    return (double)bits * 0x1p-53;
}

/* Box-Muller over sixteen uniforms in place: the first eight are radii, the last eight angles. */
static void normals_of_group(float *d) {
    for (int j = 0; j < GROUP / 2; j++) {
        float r = sqrtf(-2.0f * logf(1.0f - d[j]));
        float theta = (float)two_pi * d[j + GROUP / 2];
        d[j] = r * cosf(theta);
        d[j + GROUP / 2] = r * sinf(theta);
    }
}

static void randn_many(twister *t, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = uniform_f32(t);
    }
    for (size_t i = 0; i + GROUP <= n; i += GROUP) {
        normals_of_group(out + i);
    }
    if (n % GROUP == 0) return;
    float *last = out + (n - GROUP); /* overlaps the group before: torch draws these sixteen anew */
    for (int i = 0; i < GROUP; i++) {
        last[i] = uniform_f32(t);
    }
    normals_of_group(last);
}

static void randn_few(twister *t, float *out, size_t n) {
    for (size_t i = 0; i < n; i += 2) {
        double angle = two_pi * uniform_f64(t);
        double r = sqrt(-2.0 * log1p(-uniform_f64(t)));
        out[i] = (float)(r * cos(angle));
        if (i + 1 < n) out[i + 1] = (float)(r * sin(angle));
    }
}

void nv_torch_randn(uint64_t seed, float *out, size_t n) {
    twister t;
    twister_seed(&t, (uint32_t)seed); /* torch keeps the low 32 bits too */
    if (n >= GROUP) {
        randn_many(&t, out, n);
    } else {
        randn_few(&t, out, n);
    }
}

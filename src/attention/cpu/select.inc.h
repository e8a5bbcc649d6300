/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a row hold the top `thr` of its mass: the rule of select.c, found by splitting. The bits of
 * non-negative floats order as the floats do, so the value at which the ascending sum reaches its target is searched
 * between bounds on its bits; each step splits the candidates at a pivot, sums the lower part and goes on with the part
 * that crosses the target. A pivot is guessed from the mass still missing, as if values were spread evenly between
 * their bounds; where a guess did not halve the candidates, the next one halves the bounds. Sums are in double: of
 * values within 2^17 of each other they are exact in any order.
 */
#ifndef NABLA_SELECT_INC_H
#define NABLA_SELECT_INC_H

#include <math.h>

#include "select.h"
#include "words.inc.h"

enum { SELECT_MOST = 4096 /* longer rows (262,144 tokens) go the generic way, which needs no copy */ };

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Where the ascending sum crosses target: the value, how many have it, and the sum of all below it. */
typedef struct crossing {
    float value;
    int32_t equals;
    double below;
} crossing;

static inline float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Where the ascending sum of values spread evenly between two bounds reaches a share of its whole. */
static uint32_t guess(uint32_t low, uint32_t high, double share) {
    const double from = (double)float_of_bits(low), to = (double)float_of_bits(high);
    const uint32_t bits = float_bits((float)sqrt(from * from + (to * to - from * from) * share));
    return bits < low ? low : bits >= high ? high - 1 : bits;
}

/* x holds n > 0 probabilities between the bits low and high, whose sum `total` reaches target > 0; a and b take copies.
 */
static crossing find_crossing(const float *x, float *a, float *b, int32_t n, uint32_t low, uint32_t high, double total,
                              double target) {
    crossing c = {0};
    double mass = total; /* of the candidates */
    /* It takes n values of target / n to reach the target: the first split throws out what is smaller. */
    uint32_t pivot = float_bits((float)(target / n) * 0.999f);
    if (low < high && (pivot < low || pivot >= high)) pivot = guess(low, high, target / total);
    while (n > 1 && low < high) {
        double sum;
        const int32_t before = n, lows = v_split(x, n, pivot, a, b, &sum);
        if (c.below + sum >= target || lows == n) {
            high = pivot;
            n = lows;
            mass = sum;
        } else {
            float *const rest = b;
            b = a, a = rest;
            c.below += sum;
            low = pivot + 1;
            n -= lows;
            mass -= sum;
        }
        x = a;
        if (low >= high) break;
        const double share = (target - c.below) / mass;
        pivot = 2 * n <= before && share > 0.0 && share < 1.0 ? guess(low, high, share) : low + (high - low) / 2;
    }
    c.value = x[0];
    c.equals = n;
    return c;
}

static double select_row(const float *probs, int32_t n, float thr, uint64_t *bits) {
    float a[SELECT_MOST + VL], b[SELECT_MOST + VL];
    uint32_t low, high;
    const double total = v_survey(probs, n, &low, &high);
    if (n > SELECT_MOST || high >= float_bits(2.0f) || (1.0 - (double)thr) * total <= 0.0)
        return select_row_generic(probs, n, thr, bits); /* as long as that, NaN among them, or all kept */
    const double target = (1.0 - (double)thr) * total;
    const crossing c = find_crossing(probs, a, b, n, low, high, total, target);
    int32_t dropped = 0; /* of the equals: the last ones, as long as the sum stays under the target; never all */
    while (dropped + 1 < c.equals && c.below + (double)(dropped + 1) * (double)c.value < target)
        dropped++;
    int32_t equals = c.equals - dropped;
    float end[VL] = {0}; /* the row's last, partial vector */
    memcpy(end, probs + n / VL * VL, (size_t)(n % VL) * sizeof *end);
    memset(bits, 0, (size_t)((n + 63) / 64) * sizeof *bits);
    for (int32_t j = 0; j < n; j += VL) {
        const vf x = v_load(n - j < VL ? end : probs + j);
        uint64_t keep = v_above(x, v_set1(c.value));
        for (uint32_t equal = v_equal(x, v_set1(c.value)); equal && equals > 0; equal &= equal - 1, equals--)
            keep |= equal & -equal;
        bits[j / 64] |= keep << j % 64;
    }
    return total - c.below - (double)dropped * (double)c.value;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a row hold the top `thr` of its mass: the rule of select.c, found by splitting. The bits of
 * non-negative floats order as the floats do, so the value at which the ascending sum reaches its target is searched
 * between bounds on its bits; each step splits the candidates at a pivot, sums the lower part and goes on with the part
 * that crosses the target, about half as many. Sums are in double: of values within 2^17 of each other they are exact
 * in any order.
 */
#ifndef NABLA_SELECT_INC_H
#define NABLA_SELECT_INC_H

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

/* a holds n > 0 probabilities below 2 whose sum reaches target > 0; a and b are overwritten. */
static crossing find_crossing(float *a, float *b, int32_t n, double target) {
    crossing c = {0};
    /* It takes n values of target / n to reach the target: the first split throws out what is smaller. */
    uint32_t low = 0, high = float_bits(2.0f), pivot = float_bits((float)(target / n) * 0.999f);
    while (n > 1 && low < high) {
        double sum;
        const int32_t lows = v_split(a, n, pivot, a, b, &sum);
        if (c.below + sum >= target || lows == n) {
            high = pivot;
            n = lows;
        } else {
            float *const rest = b;
            b = a, a = rest;
            c.below += sum;
            low = pivot + 1;
            n -= lows;
        }
        pivot = low + (high - low) / 2;
    }
    c.value = a[0];
    c.equals = n;
    return c;
}

static double select_row(const float *probs, int32_t n, float thr, uint64_t *bits) {
    float a[SELECT_MOST + VL], b[SELECT_MOST + VL];
    double total;
    if (n > SELECT_MOST || v_split(probs, n, float_bits(2.0f) - 1, a, b, &total) < n ||
        (1.0 - (double)thr) * total <= 0.0)
        return select_row_generic(probs, n, thr, bits); /* as long as that, NaN among them, or all kept */
    const double target = (1.0 - (double)thr) * total;
    const crossing c = find_crossing(a, b, n, target);
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

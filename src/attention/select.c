/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a row hold the top `thr` of its mass, without a sort.
 *
 * The bits of non-negative floats order as the floats do. So the value v* at which the ascending cumulative sum reaches
 * (1 - thr) of the total is found digit by digit (a radix search over weighted digits, ten bits a step): sum the mass
 * of each digit's values, walk the digits upwards until the line is crossed, go on within that digit. All above v* is
 * kept, all below dropped, and of its equals as many as the line asks for, lowest indices first.
 */
#include "select.h"

#include <string.h>

enum { DIGITS = 1024, DIGIT_BITS = 10 };

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

/* The first digit at which *below + its mass reaches target; adds what lies before it to *below. Falls on the last
   digit that holds anything where rounding lets none reach it. */
static uint32_t crossing(const double mass[DIGITS], double target, double *below) {
    uint32_t last = 0;
    double sum = *below;
    for (uint32_t d = 0; d < DIGITS; d++) {
        if (mass[d] == 0.0) continue;
        last = d;
        *below = sum;
        sum += mass[d];
        if (sum >= target) break;
    }
    return last;
}

/* The mass of each value of the digit above `shift`, over the values that agree with prefix above it. */
static void digit_masses(const float *probs, int32_t n, uint32_t prefix, int shift, double mass[DIGITS]) {
    memset(mass, 0, DIGITS * sizeof *mass);
    for (int32_t i = 0; i < n; i++) {
        const uint32_t u = bits_of(probs[i]);
        if (u >> (shift + DIGIT_BITS) == prefix) mass[u >> shift & (DIGITS - 1)] += (double)probs[i];
    }
}

static void keep_all(int32_t n, uint64_t *bits) {
    memset(bits, 0xff, (size_t)(n / 64) * sizeof *bits);
    if (n % 64) bits[n / 64] = (UINT64_C(1) << (n % 64)) - 1;
}

static bool all_probabilities(const float *probs, int32_t n) {
    uint32_t high = 0;
    for (int32_t i = 0; i < n; i++)
        high |= bits_of(probs[i]);
    return high < bits_of(2.0f); /* no sign, no NaN, no Inf, nothing from 2 up */
}

/* How many of `equals` values v, added to below one by one, stay under target; never all of them. */
static int32_t dropped_equals(double below, double v, double target, int32_t equals) {
    int32_t dropped = 0;
    while (dropped + 1 < equals && below + (double)(dropped + 1) * v < target)
        dropped++;
    return dropped;
}

NABLA_DECL_SELECT_ROW(select_row_generic) {
    double mass[DIGITS], total = 0.0;
    if (!all_probabilities(probs, n)) {
        keep_all(n, bits);
        return 1.0;
    }
    for (int32_t i = 0; i < n; i++)
        total += (double)probs[i];
    const double target = (1.0 - (double)thr) * total;
    if (target <= 0.0) {
        keep_all(n, bits);
        return total;
    }
    double below = 0.0;
    uint32_t value = 0;
    for (int shift = 2 * DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        digit_masses(probs, n, value, shift, mass);
        value = value << DIGIT_BITS | crossing(mass, target, &below);
    }
    const float line = float_of(value);
    int32_t equals = 0;
    for (int32_t i = 0; i < n; i++)
        equals += bits_of(probs[i]) == value;
    equals -= dropped_equals(below, (double)line, target, equals);

    double kept = 0.0;
    memset(bits, 0, (size_t)((n + 63) / 64) * sizeof *bits);
    for (int32_t i = 0; i < n; i++) {
        const bool equal = bits_of(probs[i]) == value && equals > 0;
        equals -= equal;
        if (equal || probs[i] > line) {
            bits[i / 64] |= UINT64_C(1) << (i % 64);
            kept += (double)probs[i];
        }
    }
    return kept;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a row hold the top `thr` of its mass: the rule of select.c, found by narrowing. The value at which
 * the ascending sum reaches its target lies between two bounds; a pass over the candidates sums what lies up to each of
 * PIVOTS values between them, and those in the one gap in which the sum crosses the target are the next candidates. Two
 * or three passes leave a vector's worth, of which every lane adds up what it does not exceed.
 *
 * Sums of these passes are in fp32 and may miss the target by a rounding. Whether the value found is the right one is
 * seen at the end: what is above it is summed in double, as the whole row was (of values within 2^17 of each other that
 * is exact in any order). Where it is not, which is one row in some thousands, the generic way is taken.
 */
#ifndef NABLA_SELECT_INC_H
#define NABLA_SELECT_INC_H

#include <math.h>

#include "select.h"
#include "words.inc.h"

enum {
    SELECT_MOST = 4096, /* longer rows (262,144 tokens) go the generic way, which needs no copy */
    PIVOTS = 4,
    ALL_LANES = (1 << VL) - 1
};

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x[n] and a vector more: the row's last n % VL values, and a filling of the caller's. */
typedef struct row_end {
    float values[VL];
    int32_t whole; /* n in whole vectors */
} row_end;

static row_end end_of(const float *x, int32_t n, float filling) {
    row_end end = {.whole = n / VL * VL};
    v_store(end.values, v_set1(filling));
    memcpy(end.values, x + end.whole, (size_t)(n - end.whole) * sizeof *x);
    return end;
}

/* The sum of x[n], and the least and the largest of its floats' bits as unsigned numbers. */
static double survey(const float *x, int32_t n, uint32_t *least, uint32_t *most) {
    const row_end end = end_of(x, n, x[0]);
    const uint32_t rest = (1u << (n - end.whole)) - 1u;
    vf low = v_load(end.values), high = low;
    v_wide sum = v_wide_zero();
    v_wide_add(&sum, rest, end.values);
    for (int32_t i = 0; i < end.whole; i += VL) {
        v_extend_bits(v_load(x + i), &low, &high);
        v_wide_add(&sum, UINT32_MAX, x + i);
    }
    *least = v_least_bits(low);
    *most = v_most_bits(high);
    return v_wide_sum(sum);
}

/* The sums of what is at most each pivot. */
static void sums_up_to(const float *x, int32_t n, const float pivot[PIVOTS], float sums[PIVOTS]) {
    const row_end end = end_of(x, n, INFINITY);
    vf sum[PIVOTS], most[PIVOTS];
    UNROLLED
    for (int u = 0; u < PIVOTS; u++) {
        most[u] = v_set1(pivot[u]);
        sum[u] = v_add_up_to(v_zero(), v_load(end.values), most[u]);
    }
    for (int32_t i = 0; i < end.whole; i += VL) {
        const vf y = v_load(x + i);
        UNROLLED
        for (int u = 0; u < PIVOTS; u++)
            sum[u] = v_add_up_to(sum[u], y, most[u]);
    }
    UNROLLED
    for (int u = 0; u < PIVOTS; u++)
        sums[u] = v_sum(sum[u]);
}

/* Moves the values of x[n] in (low, high] to out, of room for n + VL, which may be x; returns how many. */
static int32_t keep_between(const float *x, int32_t n, float low, float high, float *out) {
    const row_end end = end_of(x, n, INFINITY);
    const vf from = v_set1(low), to = v_set1(high);
    int32_t count = 0;
    for (int32_t i = 0; i < end.whole; i += VL)
        count += v_store_between(out + count, v_load(x + i), from, to);
    return count + v_store_between(out + count, v_load(end.values), from, to);
}

/* Of n <= VL values at x, with room for VL more: the least up to which they add up to `want`; else infinity. */
static float crossing_of_few(float *x, int32_t n, float want) {
    v_store(x + n, v_set1(INFINITY));
    const vf y = v_load(x);
    vf sum = v_zero();
    for (int32_t i = 0; i < n; i++) {
        const vf other = v_set1(x[i]);
        sum = v_add(sum, v_pick(v_above(other, y), v_zero(), other));
    }
    const uint32_t short_of = v_above(v_set1(want), sum);
    return -v_top(v_pick(short_of, v_set1(-INFINITY), v_sub(v_zero(), y)));
}

/* Pivots between the bits low and high. Evenly spread, floats' bits go up by equal factors: */
static void pivots_by_bits(uint32_t low, uint32_t high, float pivot[PIVOTS]) {
    for (uint32_t u = 0; u < PIVOTS; u++)
        pivot[u] = float_of_bits(low + (uint32_t)((uint64_t)(high - low) * u / PIVOTS));
}
/* or around the value at which evenly spread numbers add up to a share of their sum. */
static void pivots_by_share(uint32_t low, uint32_t high, float share, float pivot[PIVOTS]) {
    static const float around[PIVOTS] = {-0.15f, -0.03f, 0.03f, 0.15f};
    const float from = float_of_bits(low), to = float_of_bits(high);
    for (int u = 0; u < PIVOTS; u++) {
        const float at = fminf(fmaxf(share + around[u], 0.0f), 1.0f);
        const uint32_t bits = float_bits(sqrtf(from * from + (to * to - from * from) * at));
        pivot[u] = float_of_bits(bits < low ? low : bits >= high ? high - 1 : bits);
    }
}

/* Probably the value at which the ascending sum of x[n] reaches target; the values' bits lie in [low, high], and their
   sum is total. room: for n + VL. */
static float find_crossing(const float *x, int32_t n, uint32_t low, uint32_t high, double total, double target,
                           float *room) {
    float pivot[PIVOTS], sums[PIVOTS], want = (float)target, mass = (float)total;
    /* It takes n values of target / n to reach the target. */
    const uint32_t least = float_bits((float)(target / n) * 0.999f);
    pivots_by_bits(low < least && least < high ? least : low, high, pivot);
    while (n > VL && low < high) {
        sums_up_to(x, n, pivot, sums);
        float from = -1.0f, to = float_of_bits(high), below = 0.0f, up_to = mass;
        for (int u = 0; u < PIVOTS; u++)
            if (sums[u] < want)
                from = fmaxf(from, pivot[u]), below = fmaxf(below, sums[u]);
            else
                to = fminf(to, pivot[u]), up_to = fminf(up_to, sums[u]);
        const int32_t before = n;
        n = keep_between(x, n, from, to, room);
        x = room;
        want -= below;
        mass = up_to - below;
        low = from < 0.0f ? low : float_bits(from) + 1;
        high = float_bits(to);
        if (low >= high) break;
        if (2 * n <= before)
            pivots_by_share(low, high, want / mass, pivot);
        else
            pivots_by_bits(low, high, pivot);
    }
    if (low >= high && n > 0) return float_of_bits(high);
    if (x != room) memcpy(room, x, (size_t)n * sizeof *x);
    return crossing_of_few(room, n, want);
}

/* How many of x[n] are v. */
static int32_t count_of(const float *x, int32_t n, float v) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += x[i] == v;
    return count;
}

/* Sets the bits of what is at least `line`; returns its sum. */
static double keep_from(const float *x, int32_t n, float line, uint64_t *bits) {
    const row_end end = end_of(x, n, -1.0f);
    v_wide sum = v_wide_zero();
    for (int32_t first = 0; first < n; first += 64) {
        uint64_t word = 0;
        for (int32_t i = 0; i < 64 && first + i < n; i += VL) {
            const float *at = first + i < end.whole ? x + first + i : end.values;
            const uint32_t keep = ~v_above(v_set1(line), v_load(at)) & ALL_LANES;
            v_wide_add(&sum, keep, at);
            word |= (uint64_t)keep << i;
        }
        bits[first / 64] = word;
    }
    return v_wide_sum(sum);
}

static double select_row(const float *probs, int32_t n, float thr, uint64_t *bits) {
    float room[SELECT_MOST + 2 * VL];
    uint32_t low, high;
    const double total = survey(probs, n, &low, &high), target = (1.0 - (double)thr) * total;
    if (n > SELECT_MOST || high >= float_bits(2.0f) || target <= 0.0)
        return select_row_generic(probs, n, thr, bits); /* as long as that, NaN among them, or all kept */
    const float line = find_crossing(probs, n, low, high, total, target, room);
    double kept = keep_from(probs, n, line, bits);
    const double value = (double)line, below = total - kept;
    if (below >= target) return select_row_generic(probs, n, thr, bits);
    if (below + value >= target) return kept;
    /* One is not enough: of equals the last ones are dropped, as long as the sum stays under the target. */
    const int32_t equals = count_of(probs, n, line);
    if (below + equals * value < target) return select_row_generic(probs, n, thr, bits);
    int32_t dropped = 1;
    while (below + (dropped + 1) * value < target)
        dropped++;
    kept -= dropped * value;
    for (int32_t i = n - 1; dropped > 0; i--)
        if (probs[i] == line) bits[i / 64] ^= UINT64_C(1) << i % 64, dropped--;
    return kept;
}

#endif

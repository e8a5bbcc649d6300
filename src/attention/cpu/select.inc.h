/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a row hold the top `thr` of its mass: the rule of select.c, found by narrowing. The value at which
 * the ascending sum reaches its target lies between two bounds; a pass over the candidates sums what lies up to each of
 * PIVOTS values between them, and those in the one gap in which the sum crosses the target are the next candidates. Two
 * or three passes leave less than a vector, of which every lane adds up what it does not exceed.
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

/* x[n] as whole vectors and one more: what is left, then infinity. */
typedef struct values {
    const float *x, *end;
    int32_t n, whole; /* whole: in whole vectors, a multiple of VL */
} values;

/* The lanes of v.end that are values. */
static inline uint32_t rest_of(values v) {
    return (1u << (v.n - v.whole)) - 1u;
}

/* The sum, and the least and the largest of the bits as unsigned numbers. */
static double survey(values v, uint32_t *least, uint32_t *most) {
    const vf rest = v_load(v.end);
    vf low = v_pick(rest_of(v), rest, v_set1(v.whole ? v.x[0] : v.end[0])), high = low;
    v_wide sum = v_wide_zero();
    v_wide_add(&sum, rest_of(v), v.end);
    for (int32_t i = 0; i < v.whole; i += VL) {
        v_extend_bits(v_load(v.x + i), &low, &high);
        v_wide_add(&sum, ALL_LANES, v.x + i);
    }
    *least = v_least_bits(low);
    *most = v_most_bits(high);
    return v_wide_sum(sum);
}

/* The sums of what is at most each pivot. */
static void sums_up_to(values v, const float pivot[PIVOTS], float sums[PIVOTS]) {
    vf sum[PIVOTS], most[PIVOTS];
    UNROLLED
    for (int u = 0; u < PIVOTS; u++) {
        most[u] = v_set1(pivot[u]);
        sum[u] = v_add_up_to(v_zero(), v_load(v.end), most[u]);
    }
    for (int32_t i = 0; i < v.whole; i += VL) {
        const vf y = v_load(v.x + i);
        UNROLLED
        for (int u = 0; u < PIVOTS; u++)
            sum[u] = v_add_up_to(sum[u], y, most[u]);
    }
    UNROLLED
    for (int u = 0; u < PIVOTS; u++)
        sums[u] = v_sum(sum[u]);
}

/* The values in (low, high], moved to room for v.n and two vectors more, where v may lie itself. */
static values between(values v, float low, float high, float *room) {
    const vf from = v_set1(low), to = v_set1(high);
    int32_t n = 0;
    for (int32_t i = 0; i < v.whole; i += VL)
        n += v_store_between(room + n, v_load(v.x + i), from, to);
    n += v_store_between(room + n, v_load(v.end), from, to);
    v_store(room + n, v_set1(INFINITY));
    return (values){.x = room, .end = room + n / VL * VL, .n = n, .whole = n / VL * VL};
}

/* Of fewer than VL values: the least up to which they add up to `want`; else infinity. */
static float crossing_of_few(values v, float want) {
    const vf y = v_load(v.end);
    vf sum = v_zero();
    for (int32_t i = 0; i < v.n; i++) {
        const vf other = v_set1(v.end[i]);
        sum = v_add(sum, v_pick(v_above(other, y), v_zero(), other));
    }
    const uint32_t short_of = v_above(v_set1(want), sum);
    return -v_top(v_pick(short_of, v_set1(-INFINITY), v_sub(v_zero(), y)));
}

/* Pivots from the bits `low` on, up to `high`. Evenly spread, floats' bits go up by equal factors: */
static void pivots_by_bits(uint32_t low, uint32_t high, float pivot[PIVOTS]) {
    for (uint32_t u = 0; u < PIVOTS; u++)
        pivot[u] = float_of_bits(low + (uint32_t)((uint64_t)(high - low) * u / PIVOTS));
}
/* or around the value at which evenly spread numbers add up to a share of their sum. */
static void pivots_by_share(uint32_t low, uint32_t high, float share, float pivot[PIVOTS]) {
    static const float around[PIVOTS] = {-0.15f, -0.03f, 0.03f, 0.15f};
    const float from = float_of_bits(low), to = float_of_bits(high);
    for (int u = 0; u < PIVOTS; u++) {
        const float at = share + around[u], in = at < 0.0f ? 0.0f : at > 1.0f ? 1.0f : at;
        const uint32_t bits = float_bits(sqrtf(from * from + (to * to - from * from) * in));
        pivot[u] = float_of_bits(bits < low ? low : bits >= high ? high - 1 : bits);
    }
}

/* Probably the value at which the ascending sum of v reaches target; the values' bits lie in [low, high], and their sum
   is total. room: as for between(). */
static float find_crossing(values v, uint32_t low, uint32_t high, double total, double target, float *room) {
    float pivot[PIVOTS], sums[PIVOTS], want = (float)target, mass = (float)total;
    /* It takes n values of target / n to reach the target. */
    const uint32_t least = float_bits((float)(target / v.n) * 0.999f);
    pivots_by_bits(low < least && least < high ? least : low, high, pivot);
    while (v.n >= VL && low < high) {
        sums_up_to(v, pivot, sums);
        float from = -1.0f, to = float_of_bits(high), below = 0.0f, up_to = mass;
        for (int u = 0; u < PIVOTS; u++) /* they ascend, and so do the sums */
            if (sums[u] < want)
                from = pivot[u], below = sums[u];
            else if (pivot[u] < to)
                to = pivot[u], up_to = sums[u];
        const int32_t before = v.n;
        v = between(v, from, to, room);
        want -= below;
        mass = up_to - below;
        low = from < 0.0f ? low : float_bits(from) + 1;
        high = float_bits(to);
        if (2 * v.n <= before && low < high)
            pivots_by_share(low, high, want / mass, pivot);
        else
            pivots_by_bits(low, high, pivot);
    }
    return low >= high && v.n > 0 ? float_of_bits(high) : crossing_of_few(v, want);
}

/* How many of x[n] are v. */
static int32_t count_of(const float *x, int32_t n, float v) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += x[i] == v;
    return count;
}

/* Sets the bits of what is at least `line`; returns its sum. */
static double keep_from(values v, float line, uint64_t *bits) {
    v_wide sum = v_wide_zero();
    for (int32_t first = 0; first < v.n; first += 64) {
        uint64_t word = 0;
        for (int32_t i = first; i < first + 64 && i < v.n; i += VL) {
            const float *at = i < v.whole ? v.x + i : v.end;
            const uint32_t inside = i < v.whole ? ALL_LANES : rest_of(v);
            const uint32_t keep = inside & ~v_above(v_set1(line), v_load(at));
            v_wide_add(&sum, keep, at);
            word |= (uint64_t)keep << (i - first);
        }
        bits[first / 64] = word;
    }
    return v_wide_sum(sum);
}

static double select_row(const float *probs, int32_t n, float thr, uint64_t *bits) {
    float room[SELECT_MOST + 2 * VL], end[VL];
    const values v = {.x = probs, .end = end, .n = n, .whole = n / VL * VL};
    uint32_t low, high;
    v_store(end, v_set1(INFINITY));
    memcpy(end, probs + v.whole, (size_t)(n - v.whole) * sizeof *end);
    const double total = survey(v, &low, &high), target = (1.0 - (double)thr) * total;
    if (n > SELECT_MOST || high >= float_bits(2.0f) || target <= 0.0)
        return select_row_generic(probs, n, thr, bits); /* as long as that, NaN among them, or all kept */
    const float line = find_crossing(v, low, high, total, target, room);
    double kept = keep_from(v, line, bits);
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

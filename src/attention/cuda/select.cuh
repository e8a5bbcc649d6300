/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a row hold the top `thr` of its mass, by one warp and without a sort: the rule of select.c.
 *
 * A row of scores (times log2 e) becomes weights exp2(score - top), at most 1 and not divided by their sum: the line is
 * drawn at (1 - thr) of the sum instead. The bits of non-negative floats order as the floats do, so the value at which
 * the ascending sum crosses the line is searched between bounds on its bits, halving them each step; values between the
 * bounds soon are few and are moved to a short list. When a lane each is enough for them, every lane sums what lies
 * below its own value. All above the crossing value is kept, and of its equals as many as the line asks for, lowest
 * indices first.
 *
 * Sums are fp32 within a lane (a few dozen values, four chains), double across lanes and in the last step, always in
 * the same order.
 */
#ifndef NABLA_CUDA_SELECT_CUH
#define NABLA_CUDA_SELECT_CUH

#include "device.cuh"

#include <float.h>

typedef struct selection {
    float line;     /* kept: all above it */
    int32_t equals; /* and the first `equals` of those equal to it */
    bool all;       /* everything is kept, whatever the line */
    double kept;    /* mass of what is kept: a share of total */
    double total;   /* 0: the row's mass is kept / 1, for there is nothing to divide */
} selection;

typedef struct partial_row {
    double sum;
    int32_t count;
} partial_row;

/* Of row[0, n), the values up to pivot. row on 16 bytes, n a multiple of 4. */
static __device__ __forceinline__ partial_row sum_up_to(const float *row, int32_t n, float pivot) {
    float sum[4] = {0};
    int32_t count[4] = {0};
#pragma unroll 2
    for (int32_t i = (int32_t)(threadIdx.x % NABLA_WARP) * 4; i < n; i += NABLA_WARP * 4) {
        const nabla_vector<float, 4> x = *(const nabla_vector<float, 4> *)(row + i);
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (x.at[j] <= pivot) {
                sum[j] += x.at[j];
                count[j]++;
            }
    }
    partial_row part;
    part.sum = warp_sum((double)((sum[0] + sum[1]) + (sum[2] + sum[3])));
    part.count = __reduce_add_sync(NABLA_ALL_LANES, (count[0] + count[1]) + (count[2] + count[3]));
    return part;
}

/* The values of from[0, n) in (low, high], which are at most `room`, to list; they may share memory, as no value moves
   up. Zeros fill the last four. Returns how many there are. */
static __device__ int32_t gather(const float *from, int32_t n, float low, float high, float *list, int32_t room) {
    const int32_t lane = threadIdx.x % NABLA_WARP;
    int32_t found = 0;
    for (int32_t first = 0; first < n; first += NABLA_WARP) {
        const float x = first + lane < n ? from[first + lane] : 0.0f;
        const bool between = x > low && x <= high;
        const uint32_t votes = __ballot_sync(NABLA_ALL_LANES, between);
        const int32_t place = found + __popc(votes & ((1u << lane) - 1));
        if (between && place < room) list[place] = x;
        found += __popc(votes);
    }
    if (lane < 3 && found + lane < (found + 3) / 4 * 4 && found + lane < room) list[found + lane] = 0.0f;
    __syncwarp();
    return found;
}

/* Where the ascending sum crosses the target: the value, how many have it, and the sum of all below it. */
typedef struct crossing {
    float value;
    int32_t equals;
    double below;
} crossing;

/* Among at most 32 values, `below` being the sum of all that are smaller. */
static __device__ crossing cross_few(const float *list, int32_t n, double below, double target) {
    const int32_t lane = threadIdx.x % NABLA_WARP;
    const float x = lane < n ? list[lane] : 0.0f;
    const double wide = (double)x;
    double smaller = below;
    int32_t equals = 0;
    for (int32_t j = 0; j < n; j++) {
        const double y = __shfl_sync(NABLA_ALL_LANES, wide, j);
        if (y < wide) smaller += y;
        if (y == wide) equals++;
    }
    /* The least value that reaches the target; the greatest, where rounding lets none reach it. */
    const bool reaches = lane < n && smaller + equals * wide >= target;
    const uint32_t bits = __float_as_uint(x);
    const uint32_t least = __reduce_min_sync(NABLA_ALL_LANES, reaches ? bits : UINT32_MAX);
    const uint32_t most = __reduce_max_sync(NABLA_ALL_LANES, bits);
    const uint32_t value = least != UINT32_MAX ? least : most;
    const int32_t owner = __ffs((int)__ballot_sync(NABLA_ALL_LANES, bits == value)) - 1;
    crossing c;
    c.value = __uint_as_float(value);
    c.equals = __shfl_sync(NABLA_ALL_LANES, equals, owner);
    c.below = __shfl_sync(NABLA_ALL_LANES, smaller, owner);
    return c;
}

/* row[0, n): weights from 0 to 1 whose sum reaches target > 0; n is a multiple of 64. list: room for `room` floats,
   a multiple of 4, at least 32, on 16 bytes. */
static __device__ crossing find_crossing(const float *row, int32_t n, double target, float *list, int32_t room) {
    /* Sums up to low stay under the target, sums up to high reach it. Counts are of the row or list that is walked. */
    uint32_t low = 0, high = __float_as_uint(2.0f);
    int32_t up_to_low = 0, up_to_high = n;
    double below_list = 0.0, below = 0.0; /* what was left behind when the list was made; the sum up to low */
    /* It takes n values of target / n to reach the target, so the crossing lies above that. */
    uint32_t pivot = __float_as_uint((float)(target / n) * 0.999f);
    if (pivot == 0) pivot = 1;
    while (up_to_high - up_to_low > NABLA_WARP && high - low > 1) {
        if (up_to_high - up_to_low <= room && up_to_high - up_to_low <= n / 4) {
            const int32_t found = gather(row, n, __uint_as_float(low), __uint_as_float(high), list, room);
            row = list;
            n = (found + 3) / 4 * 4;
            up_to_low = n - found; /* the zeros at its end */
            up_to_high = n;
            below_list = below;
        }
        const partial_row part = sum_up_to(row, n, __uint_as_float(pivot));
        if (below_list + part.sum >= target) {
            high = pivot;
            up_to_high = part.count;
        } else {
            low = pivot;
            up_to_low = part.count;
            below = below_list + part.sum;
        }
        pivot = low + (high - low) / 2;
    }
    if (high - low > 1) {
        const int32_t found = gather(row, n, __uint_as_float(low), __uint_as_float(high), list, room);
        return cross_few(list, found < NABLA_WARP ? found : NABLA_WARP, below, target);
    }
    crossing c;
    c.value = __uint_as_float(high);
    c.equals = up_to_high - up_to_low;
    c.below = below;
    return c;
}

/* How many of c's equals, added to what is below one by one, stay under the target; never all of them. */
static __device__ int32_t dropped_equals(crossing c, double target) {
    const double v = (double)c.value;
    int32_t dropped = (int32_t)fmax(0.0, fmin((target - c.below) / v, c.equals - 1.0));
    while (dropped > 0 && c.below + dropped * v >= target)
        dropped--;
    while (dropped + 1 < c.equals && c.below + (dropped + 1) * v < target)
        dropped++;
    return dropped;
}

/* Scores to weights, in place; their sum. A NaN, or a score of +inf, makes the sum NaN. */
static __device__ double weigh(float *row, int32_t n) {
    typedef nabla_vector<float, 4> quad;
    const int32_t start = threadIdx.x % NABLA_WARP * 4;
    float top = -FLT_MAX; /* finite where nothing is allowed */
    for (int32_t i = start; i < n; i += NABLA_WARP * 4) {
        const quad x = *(const quad *)(row + i);
        top = fmaxf(top, fmaxf(fmaxf(x.at[0], x.at[1]), fmaxf(x.at[2], x.at[3])));
    }
    for (int step = NABLA_WARP / 2; step; step /= 2)
        top = fmaxf(top, __shfl_xor_sync(NABLA_ALL_LANES, top, step));
    float sum[4] = {0};
    for (int32_t i = start; i < n; i += NABLA_WARP * 4) {
        quad x = *(const quad *)(row + i);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            x.at[j] = exp2_fast(x.at[j] - top);
            sum[j] += x.at[j];
        }
        *(quad *)(row + i) = x;
    }
    __syncwarp();
    return warp_sum((double)((sum[0] + sum[1]) + (sum[2] + sum[3])));
}

/* row[0, n): scores, -inf where a block is not allowed and past the row's end; weights afterwards. dropped_share: 1 -
   thr. n, list and room as above. */
static __device__ selection select_row(float *row, int32_t n, double dropped_share, float *list, int32_t room) {
    selection s = {};
    s.total = weigh(row, n);
    s.kept = s.total;
    const double target = dropped_share * s.total;
    if (!(target > 0.0)) { /* thr is 1, or nothing has any weight, or one is NaN */
        s.all = true;
        if (s.total != s.total) s.kept = s.total = 1.0;
        return s;
    }
    const crossing c = find_crossing(row, n, target, list, room);
    const int32_t dropped = dropped_equals(c, target);
    s.line = c.value;
    s.equals = c.equals - dropped;
    s.kept = s.total - c.below - dropped * (double)c.value;
    return s;
}

#endif

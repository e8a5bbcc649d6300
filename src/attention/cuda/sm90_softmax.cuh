/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A unit's softmax while blocks come, and what is left of it in the end. The running maximum of FlashAttention (arXiv
 * 2205.14135) moves only when a row's weights would grow by more than a factor of 2^8: what is stale in it cancels.
 */
#ifndef NABLA_SM90_SOFTMAX_CUH
#define NABLA_SM90_SOFTMAX_CUH

#include "sm90_launch.cuh"

#include <math.h>

/* A thread's two rows of a unit: what it knows of their softmax. */
struct running {
    float max[2] = {-INFINITY, -INFINITY}; /* of the raw scores, perhaps stale */
    float sum[2] = {0, 0};                 /* of this thread's columns */
    float fade[2];                         /* what the output is to be multiplied by */
    bool fades = false;

    /* Raises the maxima where scores of N blocks are higher by more than 8 in powers of two. */
    template <int N> __device__ __forceinline__ void raise(const float (&s)[N][32], float slope) {
        float part[4] = {s[0][0], s[0][1], s[0][2], s[0][3]}, top[2]; /* more chains than rows: less waiting */
#pragma unroll
        for (int i = 4; i < 32 * N; i++)
            part[i % 4] = fmaxf(part[i % 4], s[i / 32][i % 32]);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            top[r] = fmaxf(part[2 * r], part[2 * r + 1]);
            top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffff, top[r], 1));
            top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffff, top[r], 2));
        }
        const float slack = 8;
        fades = __any_sync(0xffffffff, (top[0] - max[0]) * slope > slack || (top[1] - max[1]) * slope > slack);
        if (!fades) return;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float higher = fmaxf(max[r], top[r]);
            fade[r] = higher == -INFINITY ? 1.0f : exp2_fast((max[r] - higher) * slope);
            sum[r] *= fade[r];
            max[r] = higher;
        }
    }

    /* s: raw scores of N blocks of `count` keys, becomes exp2(slope (s - max)). Columns past a count are left out. */
    template <int N> __device__ __forceinline__ void step(float (&s)[N][32], const int32_t (&count)[N], float slope) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            if (count[n] == 64) continue;
            const int column = threadIdx.x % 4 * 2;
#pragma unroll
            for (int i = 0; i < 32; i++)
                s[n][i] = i / 4 * 8 + column + i % 2 < count[n] ? s[n][i] : -INFINITY;
        }
        raise(s, slope);
        const float shift[2] = {max[0] == -INFINITY ? 0.0f : -max[0] * slope,
                                max[1] == -INFINITY ? 0.0f : -max[1] * slope};
        float part[4] = {sum[0], 0, sum[1], 0};
#pragma unroll
        for (int i = 0; i < 32 * N; i++) {
            float &x = s[i / 32][i % 32];
            x = exp2_fast(fmaf(x, slope, shift[i / 2 % 2]));
            part[i % 4] += x;
        }
        sum[0] = part[0] + part[1];
        sum[1] = part[2] + part[3];
    }

    template <int M> __device__ __forceinline__ void apply(float (&o)[M]) const {
        if (!fades) return;
#pragma unroll
        for (int i = 0; i < M; i++)
            o[i] *= fade[i / 2 % 2];
    }
};

template <typename T, int D>
__device__ __forceinline__ void store_output(const nabla_cuda_attention &a, const row_task &task, const running &rows,
                                             float (&o)[D / 2], float slope) {
    const int thread = threadIdx.x % WARPGROUP, column = thread % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = rows.sum[r];
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * r;
        if (row >= task.count) continue;
        const float weight = sum == 0 ? 0 : a.alpha / sum;
        if (a.lse && thread % 4 == 0)
            a.lse[(int64_t)task.head * a.plan.q.tokens + task.first + row] =
                sum == 0 ? -INFINITY : (rows.max[r] * slope + log2f(sum)) * 0.693147180559945309f;
        const int64_t at = task.batch * a.o.batch + (task.first + row) * a.o.row + task.head_in_batch * a.o.head;
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            store_pair<T>(a.o, at, j * 8 + column, a.head_dim, o[4 * j + 2 * r] * weight, o[4 * j + 2 * r + 1] * weight,
                          a.beta);
    }
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of fp32 tiles by FFMA, since tensor cores would round operands to TF32. Tiles are those of sm80.cuh. Thread
 * (y, x) = (thread / 8, thread % 8) has rows y + 16 i, and columns x + 8 j of scores, or words of four columns at
 * x + 8 j of sums. So a row's threads are eight neighbours in one warp, and what they exchange needs no barrier of
 * more than the warp.
 */
#ifndef NABLA_SM80_FP32_CUH
#define NABLA_SM80_FP32_CUH

#include "sm80.cuh"

/* The shape of a thread block's work: ROWS of its own by chunks of up to COLUMNS of the other side. */
template <int DIM_, int ROWS_, int COLUMNS_> struct fp32_shape {
    static constexpr int DIM = DIM_, ROWS = ROWS_, COLUMNS = COLUMNS_;
    static constexpr int CHUNKS = DIM / 4;                          /* 16-byte words in a tile's row */
    static constexpr int OWN = ROWS * DIM * 4;                      /* bytes of a tile */
    static constexpr int OTHER = COLUMNS * DIM * 4;                 /* bytes of a tile */
    static constexpr int P_STRIDE = COLUMNS + 4;                    /* floats; four keep rows in different banks */
    static constexpr int P = ROWS * P_STRIDE * 4;                   /* bytes of the tile of probabilities */
    static constexpr int THREAD_ROWS = ROWS / 16, WORDS = DIM / 32; /* of one thread */
    static constexpr int THREAD_COLUMNS = COLUMNS / 8;
    static constexpr int PARTS = SM80_ROWS / ROWS; /* thread blocks a unit */
};

/* The rows of a unit that this thread block has: its share where PARTS divide it; count may be 0 or less. */
template <typename S> SM80_FN nabla_cuda_unit fp32_unit(const nabla_cuda_side &side) {
    nabla_cuda_unit unit = side.units[blockIdx.x / S::PARTS];
    const int32_t skip = (int32_t)(blockIdx.x % S::PARTS) * S::ROWS;
    unit.first += skip;
    unit.count = min(unit.count - skip, S::ROWS);
    return unit;
}

/* s = a's rows times b's rows, summed over columns in ascending order. */
template <typename S>
SM80_FN void fp32_products(float (&s)[S::THREAD_ROWS][S::THREAD_COLUMNS], const unsigned char *a_tile,
                           const unsigned char *b_tile, int32_t head_dim) {
    const int32_t y = (int32_t)threadIdx.x / 8, x = (int32_t)threadIdx.x % 8;
    const float4 *const a_at = (const float4 *)a_tile + y * S::CHUNKS, *const b_at =
                                                                           (const float4 *)b_tile + x * S::CHUNKS;
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < S::THREAD_COLUMNS; j++)
            s[i][j] = 0.0f;
#pragma unroll 2
    for (int c = 0; c < head_dim / 4; c++) {
        float4 a[S::THREAD_ROWS], b[S::THREAD_COLUMNS];
#pragma unroll
        for (int i = 0; i < S::THREAD_ROWS; i++)
            a[i] = a_at[16 * i * S::CHUNKS + (c ^ (y & 7))];
#pragma unroll
        for (int j = 0; j < S::THREAD_COLUMNS; j++)
            b[j] = b_at[8 * j * S::CHUNKS + (c ^ x)];
#pragma unroll
        for (int i = 0; i < S::THREAD_ROWS; i++)
#pragma unroll
            for (int j = 0; j < S::THREAD_COLUMNS; j++) {
                s[i][j] = fmaf(a[i].x, b[j].x, s[i][j]);
                s[i][j] = fmaf(a[i].y, b[j].y, s[i][j]);
                s[i][j] = fmaf(a[i].z, b[j].z, s[i][j]);
                s[i][j] = fmaf(a[i].w, b[j].w, s[i][j]);
            }
    }
}

/* The thread's part of the scores' place to the tile of probabilities; for the same warp to read. */
template <typename S> SM80_FN void fp32_put(float *p_tile, const float (&p)[S::THREAD_ROWS][S::THREAD_COLUMNS]) {
    const int32_t y = (int32_t)threadIdx.x / 8, x = (int32_t)threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < S::THREAD_COLUMNS; j++)
            p_tile[(y + 16 * i) * S::P_STRIDE + x + 8 * j] = p[i][j];
    __syncwarp();
}

/* sum += p's first `count` columns times as many rows of a tile, in ascending order; p is 0 up to a multiple of 4. */
template <typename S>
SM80_FN void fp32_accumulate(float4 (&sum)[S::THREAD_ROWS][S::WORDS], const float *p_tile, const unsigned char *tile,
                             int32_t count) {
    const int32_t y = (int32_t)threadIdx.x / 8, x = (int32_t)threadIdx.x % 8;
#pragma unroll 1
    for (int k = 0; k < count; k += 4) {
        float p[S::THREAD_ROWS][4];
#pragma unroll
        for (int i = 0; i < S::THREAD_ROWS; i++) {
            const float4 word = *(const float4 *)(p_tile + (y + 16 * i) * S::P_STRIDE + k);
            p[i][0] = word.x;
            p[i][1] = word.y;
            p[i][2] = word.z;
            p[i][3] = word.w;
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
#pragma unroll
            for (int j = 0; j < S::WORDS; j++) {
                const float4 v = ((const float4 *)tile)[sm80_place<S::CHUNKS>(k + e, x + 8 * j)];
#pragma unroll
                for (int i = 0; i < S::THREAD_ROWS; i++) {
                    sum[i][j].x = fmaf(p[i][e], v.x, sum[i][j].x);
                    sum[i][j].y = fmaf(p[i][e], v.y, sum[i][j].y);
                    sum[i][j].z = fmaf(p[i][e], v.z, sum[i][j].z);
                    sum[i][j].w = fmaf(p[i][e], v.w, sum[i][j].w);
                }
            }
    }
}

/* e^x by exp2f, which CUDA rounds as well as expf and faster. */
SM80_FN float fp32_exp(float x) {
    return exp2f(x * SM80_LOG2_E);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backward pass's two numbers a query: lse in log2 units, and delta = alpha sum_d dO O.
 *
 * delta is summed in the order in which the sm80 kernels sum dP = dO V^T, by the same instructions: where one key has
 * all of a row's probability, O is its V, and dP - delta is then exactly 0. So 16-bit types take the diagonal of
 * dO O^T, by mma.sync; an O of fp32 is split into two operands, its rounded value and what that lacks.
 */
#include "sm80.cuh"

enum { WARP_ROWS = 16 };

/* A query's two numbers; past the tokens those of a row that sees nothing. */
SM80_FN void write_stats(const nabla_cuda_attention &a, int32_t head, int64_t row, float delta) {
    if (row >= a.row_stats_stride) return;
    const int64_t heads = (int64_t)a.plan.batch * a.plan.heads, tokens = a.plan.q.tokens;
    const float lse = row < tokens ? a.lse[head * tokens + row] : -INFINITY;
    a.row_stats[head * a.row_stats_stride + row] = lse == -INFINITY ? INFINITY : lse * SM80_LOG2_E;
    a.row_stats[(heads + head) * a.row_stats_stride + row] = row < tokens ? delta : 0.0f;
}

/* Columns column and column + 1 of a row as operands, and in `rest` what an fp32 element loses by that. */
template <typename T>
SM80_FN uint32_t operands(const sm80_rows &x, int32_t row, int32_t column, bool live, uint32_t *rest) {
    *rest = 0;
    if (!live) return 0;
    const char *at = x.base + row * x.stride;
    if (!x.fp32) {
        if (!(x.misaligned & 3)) return __ldg((const uint32_t *)at + column / 2);
        return __ldg((const uint16_t *)at + column) | (uint32_t)__ldg((const uint16_t *)at + column + 1) << 16;
    }
    const float2 value = sm80_fetch<T>(x, row, column);
    const uint32_t rounded = pack<T>(value.x, value.y);
    const float2 kept = sm80_unpack<T>(rounded);
    *rest = pack<T>(value.x - kept.x, value.y - kept.y);
    return rounded;
}

template <typename T>
__global__ void __launch_bounds__(SM80_THREADS) delta_16_bit(const __grid_constant__ nabla_cuda_attention a) {
    const int32_t head = (int32_t)blockIdx.y, lane = (int32_t)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int32_t first = ((int32_t)blockIdx.x * (SM80_THREADS / 32) + (int32_t)threadIdx.x / 32) * WARP_ROWS;
    const sm80_rows o = sm80_rows_of(a.plan, a.o, head), d_o = sm80_rows_of(a.plan, a.d_o, head);
    float sum[2][4] = {}, rest_sum[2][4] = {}; /* rows 0 to 15 by columns 0 to 7, and by 8 to 15 */
    for (int32_t k = 0; k < a.head_dim; k += 16) {
        uint32_t x[4], y[4], y_rest[4], unused;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int32_t row = first + g + i % 2 * 8, column = k + 2 * t + i / 2 * 8;
            const bool live = row < a.plan.q.tokens && column < a.head_dim;
            x[i] = operands<T>(d_o, row, column, live, &unused);
            y[i] = operands<T>(o, row, column, live, &y_rest[i]);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            multiply_add<T>(sum[half], x, y[half], y[half + 2]);
            if (o.fp32) multiply_add<T>(rest_sum[half], x, y_rest[half], y_rest[half + 2]);
        }
    }
    if (t != g / 2) return; /* no element of the diagonal here */
    write_stats(a, head, first + g, a.alpha * (g % 2 ? sum[0][1] + rest_sum[0][1] : sum[0][0] + rest_sum[0][0]));
    write_stats(a, head, first + g + 8, a.alpha * (g % 2 ? sum[1][3] + rest_sum[1][3] : sum[1][2] + rest_sum[1][2]));
}

static __global__ void __launch_bounds__(SM80_THREADS) delta_fp32(const __grid_constant__ nabla_cuda_attention a) {
    const int32_t head = (int32_t)blockIdx.y, row = (int32_t)(blockIdx.x * SM80_THREADS + threadIdx.x);
    const sm80_rows o = sm80_rows_of(a.plan, a.o, head), d_o = sm80_rows_of(a.plan, a.d_o, head);
    const float *x = (const float *)(d_o.base + row * d_o.stride), *y = (const float *)(o.base + row * o.stride);
    float sum = 0.0f;
    for (int32_t k = 0; row < a.plan.q.tokens && k < a.head_dim; k += 4) {
        const uint4 p = sm80_gather<float>(d_o, (const char *)x, k), q = sm80_gather<float>(o, (const char *)y, k);
        sum = fmaf(__uint_as_float(p.x), __uint_as_float(q.x), sum);
        sum = fmaf(__uint_as_float(p.y), __uint_as_float(q.y), sum);
        sum = fmaf(__uint_as_float(p.z), __uint_as_float(q.z), sum);
        sum = fmaf(__uint_as_float(p.w), __uint_as_float(q.w), sum);
    }
    write_stats(a, head, row, a.alpha * sum);
}

extern "C" int nabla_cuda_delta(const nabla_cuda_attention *a) {
    const bool fp32 = a->dtype == NABLA_FP32;
    const int64_t block_rows = fp32 ? SM80_THREADS : SM80_THREADS / 32 * WARP_ROWS;
    const int32_t blocks = (int32_t)((a->row_stats_stride + block_rows - 1) / block_rows);
    if (fp32) return sm80_launch(delta_fp32, a, blocks, 0);
    return a->dtype == NABLA_FP16 ? sm80_launch(delta_16_bit<__half>, a, blocks, 0)
                                  : sm80_launch(delta_16_bit<__nv_bfloat16>, a, blocks, 0);
}

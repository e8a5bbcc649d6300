/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward attention of fp32 by FFMA: the same walk, copies and running softmax as sm80_forward.cu (FlashAttention-2,
 * arXiv 2307.08691), with maxima in natural units so that LSE is rounded but once.
 */
#include "sm80_fp32.cuh"

template <typename S> struct forward_state {
    float4 o[S::THREAD_ROWS][S::WORDS];
    float max[S::THREAD_ROWS], sum[S::THREAD_ROWS]; /* running maximum; this thread's part of sum exp(x - max) */
};

/* Raises the maxima to cover the scores s of a chunk, and turns them into exp(score - max). */
template <typename S>
SM80_FN void softmax_step(forward_state<S> &st, float (&s)[S::THREAD_ROWS][S::THREAD_COLUMNS], int32_t count,
                          float scale) {
    const int32_t x = (int32_t)threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++) {
        float max = st.max[i];
#pragma unroll
        for (int j = 0; j < S::THREAD_COLUMNS; j++) {
            s[i][j] = x + 8 * j < count ? __fmul_rn(s[i][j], scale) : -INFINITY;
            max = fmaxf(max, s[i][j]);
        }
#pragma unroll
        for (int step = 1; step < 8; step *= 2)
            max = fmaxf(max, __shfl_xor_sync(~0u, max, step));
        const float shift = max == -INFINITY ? 0.0f : max; /* so that -inf - -inf is not asked for */
        const float fade = fp32_exp(st.max[i] - shift);
        st.max[i] = max;
        st.sum[i] *= fade;
#pragma unroll
        for (int j = 0; j < S::THREAD_COLUMNS; j++) {
            s[i][j] = fp32_exp(__fsub_rn(s[i][j], shift));
            st.sum[i] += s[i][j];
        }
#pragma unroll
        for (int j = 0; j < S::WORDS; j++) {
            float4 &o = st.o[i][j];
            o = make_float4(o.x * fade, o.y * fade, o.z * fade, o.w * fade);
        }
    }
}

SM80_FN void store_pair(const sm80_rows &o, int32_t row, int32_t column, float alpha, float beta, float x, float y) {
    float2 old = make_float2(0.0f, 0.0f);
    if (beta != 0.0f) old = sm80_fetch<float>(o, row, column);
    sm80_store<float>(o, row, column, beta * old.x + alpha * x, beta * old.y + alpha * y);
}

/* O = beta O + alpha attention, and LSE. */
template <typename S>
SM80_FN void store_output(const nabla_cuda_attention &a, int32_t head, const nabla_cuda_unit &unit,
                          const forward_state<S> &st) {
    const sm80_rows o = sm80_rows_of(a.plan, a.o, head);
    const int32_t y = (int32_t)threadIdx.x / 8, x = (int32_t)threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++) {
        float sum = st.sum[i];
#pragma unroll
        for (int step = 1; step < 8; step *= 2)
            sum += __shfl_xor_sync(~0u, sum, step);
        const int32_t row = unit.first + y + 16 * i;
        if (y + 16 * i >= unit.count) continue;
        const float weight = sum == 0.0f ? 0.0f : a.alpha / sum;
#pragma unroll
        for (int j = 0; j < S::WORDS; j++) {
            const int32_t column = 4 * (x + 8 * j);
            if (column >= a.head_dim) continue;
            store_pair(o, row, column, weight, a.beta, st.o[i][j].x, st.o[i][j].y);
            store_pair(o, row, column + 2, weight, a.beta, st.o[i][j].z, st.o[i][j].w);
        }
        if (a.lse && x == 0)
            a.lse[(int64_t)head * a.plan.q.tokens + row] = sum == 0.0f ? -INFINITY : st.max[i] + logf(sum);
    }
}

template <typename S>
__global__ void __launch_bounds__(SM80_THREADS, 2) forward_fp32(const __grid_constant__ nabla_cuda_attention a) {
    NABLA_LAUNCH_SHARED(shared, 128);
    unsigned char *const k_tile = shared + S::OWN, *const v_tile = k_tile + S::OTHER;
    float *const p_tile = (float *)(v_tile + S::OTHER);
    const int32_t head = (int32_t)blockIdx.y;
    const nabla_cuda_unit unit = fp32_unit<S>(a.plan.q);
    if (unit.count <= 0) return;
    const sm80_rows k = sm80_rows_of(a.plan, a.k, head), v = sm80_rows_of(a.plan, a.v, head);
    forward_state<S> st = {};
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++)
        st.max[i] = -INFINITY;

    sm80_walk walk = sm80_walk_begin(a.plan, false, head, unit.block);
    sm80_chunk now, next = {};
    bool more = sm80_walk_next(walk, S::COLUMNS, now);
    if (more) {
        sm80_load<float, S::ROWS, S::CHUNKS>(shared, sm80_rows_of(a.plan, a.q, head), {unit.first, unit.count},
                                             a.head_dim);
        sm80_load<float, S::COLUMNS, S::CHUNKS>(k_tile, k, now, a.head_dim);
    }
    while (more) {
        float s[S::THREAD_ROWS][S::THREAD_COLUMNS];
        copies_wait();
        __syncthreads(); /* keys are there, and all warps are done with the values before */
        sm80_load<float, S::COLUMNS, S::CHUNKS>(v_tile, v, now, a.head_dim);
        more = sm80_walk_next(walk, S::COLUMNS, next);
        fp32_products<S>(s, shared, k_tile, a.head_dim);
        copies_wait();
        __syncthreads(); /* values are there, and all warps are done with the keys */
        if (more) sm80_load<float, S::COLUMNS, S::CHUNKS>(k_tile, k, next, a.head_dim);
        softmax_step<S>(st, s, now.count, a.scale);
        fp32_put<S>(p_tile, s);
        fp32_accumulate<S>(st.o, p_tile, v_tile, now.count);
        now = next;
    }
    store_output<S>(a, head, unit, st);
}

template <typename S> static int launch(const nabla_cuda_attention *a) {
    constexpr size_t shared = S::OWN + 2 * S::OTHER + S::P;
    static_assert(shared <= SM80_MOST_SHARED, "tiles must fit");
    return sm80_launch(forward_fp32<S>, a, a->plan.q.unit_count * S::PARTS, shared);
}

int sm80_forward_fp32(const nabla_cuda_attention *a) {
    if (a->head_dim <= 64) return launch<fp32_shape<64, 64, 32>>(a);
    if (a->head_dim <= 128) return launch<fp32_shape<128, 64, 32>>(a);
    return launch<fp32_shape<256, 32, 16>>(a);
}

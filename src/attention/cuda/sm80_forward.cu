/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward attention of fp16 and bf16 by mma.sync: FlashAttention-2 (arXiv 2307.08691) over the chunks of a plan's row.
 * A thread block is one unit (up to 64 query rows) of one head: four warps of 16 rows. Keys and values come in chunks
 * of up to 64 rows: values are copied while scores are computed, the next keys while values are added up; two or three
 * thread blocks a multiprocessor hide the rest.
 */
#include "sm80.cuh"

template <typename T, int DIM> struct forward_state {
    float o[DIM / 8][4];  /* rows lane / 4 and that plus 8 */
    float max[2], sum[2]; /* of those rows: running maximum in log2 units; this thread's part of sum exp2(x - max) */
};

/* Raises the maxima to cover the scores s of a chunk, and turns them into exp2(score - max). */
template <typename T, int DIM>
SM80_FN void softmax_step(forward_state<T, DIM> &st, float (&s)[8][4], int32_t count, float scale_log2) {
    const int32_t column = (int32_t)threadIdx.x % 4 * 2;
    float max[2] = {st.max[0], st.max[1]};
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) /* rounded here, not within a later sum: the largest less the maximum is then 0 */
            s[n][i] = __fmul_rn(s[n][i], scale_log2);
    if (count < SM80_ROWS)
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                s[n][i] = 8 * n + column + i % 2 < count ? s[n][i] : -INFINITY;
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            max[i / 2] = fmaxf(max[i / 2], s[n][i]);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        max[r] = fmaxf(max[r], __shfl_xor_sync(~0u, max[r], 1));
        max[r] = fmaxf(max[r], __shfl_xor_sync(~0u, max[r], 2));
        const float shift = max[r] == -INFINITY ? 0.0f : max[r]; /* so that -inf - -inf is not asked for */
        const float fade = power_of_two(st.max[r] - shift);
        st.max[r] = max[r];
        st.sum[r] *= fade;
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[n][i] = power_of_two(s[n][i] - shift);
                st.sum[r] += s[n][i];
            }
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            st.o[n][2 * r] *= fade;
            st.o[n][2 * r + 1] *= fade;
        }
    }
}

/* O = beta O + alpha attention, and LSE. */
template <typename T, int DIM>
SM80_FN void store_output(const nabla_cuda_attention &a, int32_t head, const nabla_cuda_unit &unit,
                          const forward_state<T, DIM> &st) {
    const sm80_rows o = sm80_rows_of(a.plan, a.o, head);
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = st.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const int32_t i = warp * 16 + lane / 4 + 8 * r, row = unit.first + i;
        if (i >= unit.count) continue;
        const float weight = sum == 0.0f ? 0.0f : a.alpha / sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            if (8 * n >= a.head_dim) break;
            const int32_t column = 8 * n + lane % 4 * 2;
            float2 old = make_float2(0.0f, 0.0f);
            if (a.beta != 0.0f) old = sm80_fetch<T>(o, row, column);
            sm80_store<T>(o, row, column, a.beta * old.x + weight * st.o[n][2 * r],
                          a.beta * old.y + weight * st.o[n][2 * r + 1]);
        }
        if (a.lse && lane % 4 == 0)
            a.lse[(int64_t)head * a.plan.q.tokens + row] = sum == 0.0f ? -INFINITY : st.max[r] * SM80_LN_2 + logf(sum);
    }
}

template <typename T, int DIM>
__global__ void __launch_bounds__(SM80_THREADS, DIM <= 128 ? 3 : 2)
    forward_sm80(const __grid_constant__ nabla_cuda_attention a) {
    extern __shared__ __align__(128) unsigned char shared[];
    constexpr int CHUNKS = DIM / 8, TILE = SM80_ROWS * DIM * sizeof(T);
    unsigned char *const q_tile = shared, *const k_tile = shared + TILE, *const v_tile = shared + 2 * TILE;
    const int32_t head = (int32_t)blockIdx.y, warp = (int32_t)threadIdx.x / 32;
    const nabla_cuda_unit unit = a.plan.q.units[blockIdx.x];
    const sm80_rows k = sm80_rows_of(a.plan, a.k, head), v = sm80_rows_of(a.plan, a.v, head);
    const float scale_log2 = a.scale * SM80_LOG2_E;
    forward_state<T, DIM> st = {};
    st.max[0] = st.max[1] = -INFINITY;

    sm80_walk walk = sm80_walk_begin(a.plan, false, head, unit.block);
    sm80_chunk now, next = {};
    bool more = sm80_walk_next(walk, SM80_ROWS, now);
    if (more) {
        sm80_load<T, SM80_ROWS, CHUNKS>(q_tile, sm80_rows_of(a.plan, a.q, head), {unit.first, unit.count}, a.head_dim);
        sm80_load<T, SM80_ROWS, CHUNKS>(k_tile, k, now, a.head_dim);
    }
    while (more) {
        float s[8][4];
        sm80_copies_wait();
        __syncthreads(); /* keys are there, and all warps are done with the values before */
        sm80_load<T, SM80_ROWS, CHUNKS>(v_tile, v, now, a.head_dim);
        more = sm80_walk_next(walk, SM80_ROWS, next);
        sm80_products<T, DIM, 8>(s, shared_address(q_tile), warp * 16, shared_address(k_tile));
        sm80_copies_wait();
        __syncthreads(); /* values are there, and all warps are done with the keys */
        if (more) sm80_load<T, SM80_ROWS, CHUNKS>(k_tile, k, next, a.head_dim);
        softmax_step(st, s, now.count, scale_log2);
        sm80_accumulate<T, DIM, 8>(st.o, s, shared_address(v_tile));
        now = next;
    }
    store_output(a, head, unit, st);
}

template <typename T, int DIM> static int launch(const nabla_cuda_attention *a) {
    constexpr size_t shared = 3 * SM80_ROWS * DIM * sizeof(T);
    static_assert(shared <= SM80_MOST_SHARED, "three tiles must fit");
    return sm80_launch(forward_sm80<T, DIM>, a, a->plan.q.unit_count, shared);
}

template <typename T> static int forward(const nabla_cuda_attention *a) {
    if (a->head_dim <= 64) return launch<T, 64>(a);
    if (a->head_dim <= 128) return launch<T, 128>(a);
    return a->head_dim <= 192 ? launch<T, 192>(a) : launch<T, 256>(a);
}

extern "C" int nabla_cuda_forward_sm80(const nabla_cuda_attention *a) {
    if (a->dtype == NABLA_FP32) return sm80_forward_fp32(a);
    return a->dtype == NABLA_FP16 ? forward<__half>(a) : forward<__nv_bfloat16>(a);
}

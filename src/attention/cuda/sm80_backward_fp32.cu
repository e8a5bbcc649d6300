/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gradients of fp32 attention by FFMA, from P = exp(scale S - LSE) computed again; see sm80_backward.cu, whose plan
 * this shares: a thread block owns rows of one side, and S and dP have the own rows as rows. Each of dQ, dK and dV has
 * a pass of its own.
 */
#include "sm80_fp32.cuh"

enum gradient_sum { SUM_DQ, SUM_DK, SUM_DV };

/* lse and delta of queries: of the thread's rows (dQ) or of its columns of a chunk (dK, dV). */
template <int COUNT> struct statistics { float lse[COUNT], delta[COUNT]; };

/* Those of queries first + place + step i, up to count. */
template <int COUNT>
SM80_FN statistics<COUNT> read_statistics(const float *lse, const float *delta, sm80_chunk c, int32_t place,
                                          int32_t step) {
    statistics<COUNT> s;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const bool live = place + step * i < c.count;
        s.lse[i] = live ? __ldg(lse + c.first + place + step * i) : -INFINITY;
        s.delta[i] = live ? __ldg(delta + c.first + place + step * i) : 0.0f;
    }
    return s;
}

/* s becomes P, or where dp is wanted dS; 0 past the chunk's columns, and where a query saw nothing. */
template <typename S, gradient_sum SUM, int COUNT>
SM80_FN void gradients(float (&s)[S::THREAD_ROWS][S::THREAD_COLUMNS],
                       const float (&dp)[S::THREAD_ROWS][S::THREAD_COLUMNS], const statistics<COUNT> &stats,
                       int32_t count, float scale, float alpha) {
    const int32_t x = (int32_t)threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < S::THREAD_COLUMNS; j++) {
            const int query = SUM == SUM_DQ ? i : j;
            const float lse = stats.lse[query];
            /* Products are rounded as LSE and delta were: a row that sees one key alone has a dS of exactly 0. */
            const float p = fp32_exp(__fsub_rn(__fmul_rn(s[i][j], scale), lse));
            const float slope = SUM == SUM_DV ? 1.0f : __fsub_rn(__fmul_rn(alpha, dp[i][j]), stats.delta[query]);
            s[i][j] = x + 8 * j < count && lse != -INFINITY ? p * slope : 0.0f;
        }
}

template <typename S>
SM80_FN void store_sums(const nabla_cuda_attention &a, const nabla_cuda_tensor &t, int32_t head,
                        const nabla_cuda_unit &unit, float factor, const float4 (&sum)[S::THREAD_ROWS][S::WORDS]) {
    const sm80_rows out = sm80_rows_of(a.plan, t, head);
    const int32_t y = (int32_t)threadIdx.x / 8, x = (int32_t)threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < S::THREAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < S::WORDS; j++) {
            const int32_t row = unit.first + y + 16 * i, column = 4 * (x + 8 * j);
            if (y + 16 * i >= unit.count || column >= a.head_dim) continue;
            sm80_store<float>(out, row, column, factor * sum[i][j].x, factor * sum[i][j].y);
            sm80_store<float>(out, row, column + 2, factor * sum[i][j].z, factor * sum[i][j].w);
        }
}

template <typename S, gradient_sum SUM>
__global__ void __launch_bounds__(SM80_THREADS, 2) backward_fp32(const __grid_constant__ nabla_cuda_attention a) {
    NABLA_LAUNCH_SHARED(shared, 128);
    constexpr bool KEYS = SUM != SUM_DQ, NEEDS_DS = SUM != SUM_DV;
    constexpr int COUNT = KEYS ? S::THREAD_COLUMNS : S::THREAD_ROWS;
    unsigned char *const own_second = shared + S::OWN, *const other = shared + 2 * S::OWN;
    unsigned char *const other_second = other + S::OTHER;
    float *const p_tile = (float *)(other_second + S::OTHER);
    const int32_t head = (int32_t)blockIdx.y, y = (int32_t)threadIdx.x / 8, x = (int32_t)threadIdx.x % 8;
    const nabla_cuda_unit unit = fp32_unit<S>(KEYS ? a.plan.k : a.plan.q);
    if (unit.count <= 0) return;
    const sm80_chunk own = {unit.first, unit.count};
    const sm80_rows q = sm80_rows_of(a.plan, a.q, head), d_o = sm80_rows_of(a.plan, a.d_o, head);
    const sm80_rows k = sm80_rows_of(a.plan, a.k, head), v = sm80_rows_of(a.plan, a.v, head);
    const float *const lse = a.lse + (int64_t)head * a.plan.q.tokens;
    const float *const delta = a.row_stats + ((int64_t)a.plan.batch * a.plan.heads + head) * a.row_stats_stride;
    float4 sum[S::THREAD_ROWS][S::WORDS] = {};

    sm80_walk walk = sm80_walk_begin(a.plan, KEYS, head, unit.block);
    sm80_chunk c;
    statistics<COUNT> stats = {};
    sm80_load<float, S::ROWS, S::CHUNKS>(shared, KEYS ? k : q, own, a.head_dim);
    if (NEEDS_DS) sm80_load<float, S::ROWS, S::CHUNKS>(own_second, KEYS ? v : d_o, own, a.head_dim);
    if (!KEYS) stats = read_statistics<COUNT>(lse, delta, own, y, 16);
    while (sm80_walk_next(walk, S::COLUMNS, c)) {
        float s[S::THREAD_ROWS][S::THREAD_COLUMNS], dp[S::THREAD_ROWS][S::THREAD_COLUMNS];
        __syncthreads(); /* all warps are done with the chunk before */
        sm80_load<float, S::COLUMNS, S::CHUNKS>(other, KEYS ? q : k, c, a.head_dim);
        sm80_load<float, S::COLUMNS, S::CHUNKS>(other_second, KEYS ? d_o : v, c, a.head_dim);
        if (KEYS) stats = read_statistics<COUNT>(lse, delta, c, x, 8);
        copies_wait();
        __syncthreads();
        fp32_products<S>(s, shared, other, a.head_dim);
        if (NEEDS_DS) fp32_products<S>(dp, own_second, other_second, a.head_dim);
        gradients<S, SUM>(s, dp, stats, c.count, a.scale, a.alpha);
        fp32_put<S>(p_tile, s);
        fp32_accumulate<S>(sum, p_tile, NEEDS_DS ? other : other_second, c.count);
    }
    copies_wait();
    store_sums<S>(a,
                  SUM == SUM_DQ   ? a.d_q
                  : SUM == SUM_DK ? a.d_k
                                  : a.d_v,
                  head, unit, NEEDS_DS ? a.scale : a.alpha, sum);
}

template <typename S, gradient_sum SUM> static int launch(const nabla_cuda_attention *a) {
    constexpr size_t shared = 2 * S::OWN + 2 * S::OTHER + S::P;
    static_assert(shared <= SM80_MOST_SHARED, "tiles must fit");
    const int32_t units = SUM == SUM_DQ ? a->plan.q.unit_count : a->plan.k.unit_count;
    return sm80_launch(backward_fp32<S, SUM>, a, units * S::PARTS, shared);
}

template <typename S> static int launch_all(const nabla_cuda_attention *a) {
    int error = cudaSuccess;
    if (a->d_q.data) error = launch<S, SUM_DQ>(a);
    if (!error && a->d_k.data) error = launch<S, SUM_DK>(a);
    if (!error && a->d_v.data) error = launch<S, SUM_DV>(a);
    return error;
}

int sm80_backward_fp32(const nabla_cuda_attention *a) {
    if (a->head_dim <= 64) return launch_all<fp32_shape<64, 64, 32>>(a);
    if (a->head_dim <= 128) return launch_all<fp32_shape<128, 64, 16>>(a);
    return launch_all<fp32_shape<256, 32, 16>>(a);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gradients of fp16 and bf16 attention by mma.sync, from P = exp2(scale log2(e) S - lse2) computed again
 * (FlashAttention-2, arXiv 2307.08691):
 *
 *     dS = P (alpha dO V^T - delta),  dV = alpha P^T dO,  dK = scale dS^T Q,  dQ = scale dS K.
 *
 * One kernel does all of them. A thread block owns a unit of up to 64 rows of one side, and visits chunks of rows of
 * the other: S and dP have the own rows as rows, so that P and dS are at once operands of the sums that belong to the
 * own rows, in registers.
 *
 *     sums      own first, second    other first, second    sums of
 *     dQ        Q, dO                K, V                   dS other first
 *     dK, dV    K, V                 Q, dO                  dS other first, P other second
 *
 * Each sum is made by one thread in ascending order of rows: the same bits always. Above 128 columns the sums of both
 * dK and dV do not fit in registers, and each has a pass of its own.
 */
#include "sm80.cuh"

enum gradient_sums { SUM_DQ, SUM_DK, SUM_DV, SUM_DK_DV };

/* What a pass needs, and the shape of its chunks: twice in shared memory, so that one is copied while the other is
   computed with, except where that would take more than the 99 KB that all of these GPUs have. */
template <int DIM, gradient_sums SUMS> struct pass {
    static constexpr bool KEYS = SUMS != SUM_DQ;     /* the own rows are keys */
    static constexpr bool NEEDS_DS = SUMS != SUM_DV; /* and with it own second, and the first sum */
    static constexpr bool NEEDS_P = SUMS == SUM_DV || SUMS == SUM_DK_DV;
    static constexpr int ROWS = DIM <= 64 ? 64 : 32; /* of a chunk */
    static constexpr int CHUNKS = DIM / 8;
    static constexpr int STAGES = DIM > 192 && NEEDS_DS ? 1 : 2;
    static constexpr int OWN = SM80_ROWS * DIM * 2, OTHER = ROWS * DIM * 2; /* bytes of tiles */
    static constexpr int STATS = KEYS ? 2 * ROWS * 4 : 0;                   /* lse2 and delta of a chunk's queries */
    static constexpr int STAGE = 2 * OTHER + STATS, OWN_TILES = NEEDS_DS ? 2 : 1;
    static constexpr int SHARED = OWN_TILES * OWN + STAGES * STAGE;
};

/* The tensors of a pass, of one head. */
struct pass_rows {
    sm80_rows own[2], other[2];
    const float *lse2, *delta; /* of the head's queries */
};

template <bool KEYS> SM80_FN pass_rows rows_of_pass(const nabla_cuda_attention &a, int32_t head) {
    const int64_t heads = (int64_t)a.plan.batch * a.plan.heads;
    const sm80_rows q = sm80_rows_of(a.plan, a.q, head), d_o = sm80_rows_of(a.plan, a.d_o, head);
    const sm80_rows k = sm80_rows_of(a.plan, a.k, head), v = sm80_rows_of(a.plan, a.v, head);
    pass_rows r;
    r.own[0] = KEYS ? k : q;
    r.own[1] = KEYS ? v : d_o;
    r.other[0] = KEYS ? q : k;
    r.other[1] = KEYS ? d_o : v;
    r.lse2 = a.row_stats + head * a.row_stats_stride;
    r.delta = a.row_stats + (heads + head) * a.row_stats_stride;
    return r;
}

/* A chunk of the other side to a stage: its two tiles, then the queries' statistics. */
template <typename T, typename P>
SM80_FN void load_stage(unsigned char *stage, const pass_rows &r, sm80_chunk c, int32_t head_dim) {
    sm80_load<T, P::ROWS, P::CHUNKS>(stage, r.other[0], c, head_dim);
    sm80_load<T, P::ROWS, P::CHUNKS>(stage + P::OTHER, r.other[1], c, head_dim);
    if (P::KEYS && threadIdx.x < 2 * P::ROWS) {
        const int32_t i = (int32_t)threadIdx.x % P::ROWS;
        const float *src = ((int32_t)threadIdx.x < P::ROWS ? r.lse2 : r.delta) + (i < c.count ? c.first + i : 0);
        sm80_copy_4(shared_address(stage + 2 * P::OTHER) + 4 * threadIdx.x, src, i < c.count ? 4 : 0);
    }
}

/* lse2 and delta of this thread's two rows, where the own rows are queries. */
struct row_stats {
    float lse2[2], delta[2];
};

SM80_FN row_stats own_stats(const pass_rows &r, const nabla_cuda_unit &unit) {
    row_stats s;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int32_t row = (int32_t)threadIdx.x / 32 * 16 + (int32_t)threadIdx.x % 32 / 4 + 8 * i;
        s.lse2[i] = row < unit.count ? r.lse2[unit.first + row] : INFINITY;
        s.delta[i] = row < unit.count ? r.delta[unit.first + row] : 0.0f;
    }
    return s;
}

/* S to P, and dP to dS; 0 past the chunk's rows. chunk_stats: of its queries, where the own rows are keys. */
template <typename P, int COLUMNS>
SM80_FN void gradients(float (&s)[COLUMNS][4], float (&dp)[COLUMNS][4], int32_t count, float scale_log2, float alpha,
                       const row_stats &own, const float *chunk_stats) {
    const int32_t column = (int32_t)threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < COLUMNS; n++) {
        float2 lse2 = {}, delta = {};
        if (P::KEYS) lse2 = *(const float2 *)(chunk_stats + 8 * n + column);
        if (P::KEYS && P::NEEDS_DS) delta = *(const float2 *)(chunk_stats + P::ROWS + 8 * n + column);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float row_lse2 = !P::KEYS ? own.lse2[i / 2] : i % 2 ? lse2.y : lse2.x;
            const float row_delta = !P::KEYS ? own.delta[i / 2] : i % 2 ? delta.y : delta.x;
            const bool live = 8 * n + column + i % 2 < count;
            s[n][i] = live ? power_of_two(s[n][i] * scale_log2 - row_lse2) : 0.0f;
            /* The product is rounded as delta was: a row that sees one key alone has a dS of exactly 0. */
            if (P::NEEDS_DS) dp[n][i] = live ? s[n][i] * __fsub_rn(__fmul_rn(alpha, dp[n][i]), row_delta) : 0.0f;
        }
    }
}

template <typename T, int DIM>
SM80_FN void store_sums(const nabla_cuda_attention &a, const nabla_cuda_tensor &t, int32_t head,
                        const nabla_cuda_unit &unit, float factor, const float (&sum)[DIM / 8][4]) {
    if (!t.data) return;
    const sm80_rows x = sm80_rows_of(a.plan, t, head);
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int32_t i = warp * 16 + lane / 4 + 8 * r;
        if (i >= unit.count) continue;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            if (8 * n >= a.head_dim) break;
            sm80_store<T>(x, unit.first + i, 8 * n + lane % 4 * 2, factor * sum[n][2 * r], factor * sum[n][2 * r + 1]);
        }
    }
}

template <typename T, int DIM, gradient_sums SUMS>
__global__ void __launch_bounds__(SM80_THREADS, 2) backward_sm80(const __grid_constant__ nabla_cuda_attention a) {
    extern __shared__ __align__(128) unsigned char shared[];
    using P = pass<DIM, SUMS>;
    constexpr int COLUMNS = P::ROWS / 8;
    unsigned char *const stages = shared + P::OWN_TILES * P::OWN;
    const int32_t head = (int32_t)blockIdx.y, warp = (int32_t)threadIdx.x / 32;
    const nabla_cuda_unit unit = (P::KEYS ? a.plan.k : a.plan.q).units[blockIdx.x];
    const pass_rows rows = rows_of_pass<P::KEYS>(a, head);
    const float scale_log2 = a.scale * SM80_LOG2_E;
    float first[DIM / 8][4] = {}, second[DIM / 8][4] = {};

    sm80_walk walk = sm80_walk_begin(a.plan, P::KEYS, head, unit.block);
    sm80_chunk now, next = {};
    bool more = sm80_walk_next(walk, P::ROWS, now);
    row_stats own = {};
    if (more) {
        sm80_load<T, SM80_ROWS, P::CHUNKS>(shared, rows.own[0], {unit.first, unit.count}, a.head_dim);
        if (P::NEEDS_DS)
            sm80_load<T, SM80_ROWS, P::CHUNKS>(shared + P::OWN, rows.own[1], {unit.first, unit.count}, a.head_dim);
        load_stage<T, P>(stages, rows, now, a.head_dim);
        if (!P::KEYS) own = own_stats(rows, unit);
    }
    for (int stage = 0; more; stage = P::STAGES - 1 - stage, now = next) {
        float s[COLUMNS][4], dp[COLUMNS][4];
        unsigned char *const tiles = stages + stage * P::STAGE;
        sm80_copies_wait();
        __syncthreads(); /* the chunk is there, and all warps are done with the one before */
        more = sm80_walk_next(walk, P::ROWS, next);
        if (P::STAGES == 2 && more) load_stage<T, P>(stages + (1 - stage) * P::STAGE, rows, next, a.head_dim);
        sm80_products<T, DIM, COLUMNS>(s, shared_address(shared), warp * 16, shared_address(tiles));
        if (P::NEEDS_DS)
            sm80_products<T, DIM, COLUMNS>(dp, shared_address(shared + P::OWN), warp * 16,
                                           shared_address(tiles + P::OTHER));
        gradients<P, COLUMNS>(s, dp, now.count, scale_log2, a.alpha, own, (const float *)(tiles + 2 * P::OTHER));
        if (P::NEEDS_P) sm80_accumulate<T, DIM, COLUMNS>(second, s, shared_address(tiles + P::OTHER));
        if (P::NEEDS_DS) sm80_accumulate<T, DIM, COLUMNS>(first, dp, shared_address(tiles));
        if (P::STAGES == 1 && more) {
            __syncthreads();
            load_stage<T, P>(stages, rows, next, a.head_dim);
        }
    }
    if (P::NEEDS_DS) store_sums<T, DIM>(a, P::KEYS ? a.d_k : a.d_q, head, unit, a.scale, first);
    if (P::NEEDS_P) store_sums<T, DIM>(a, a.d_v, head, unit, a.alpha, second);
}

template <typename T, int DIM, gradient_sums SUMS> static int launch(const nabla_cuda_attention *a) {
    using P = pass<DIM, SUMS>;
    static_assert(P::SHARED <= SM80_MOST_SHARED, "tiles must fit");
    const int32_t units = P::KEYS ? a->plan.k.unit_count : a->plan.q.unit_count;
    return sm80_launch(backward_sm80<T, DIM, SUMS>, a, units, P::SHARED);
}

/* dQ, dK, dV: those that are asked for. */
template <typename T, int DIM> static int launch_all(const nabla_cuda_attention *a) {
    int error = cudaSuccess;
    if (a->d_q.data) error = launch<T, DIM, SUM_DQ>(a);
    if constexpr (DIM <= 128) {
        if (!error && (a->d_k.data || a->d_v.data)) error = launch<T, DIM, SUM_DK_DV>(a);
    } else {
        if (!error && a->d_k.data) error = launch<T, DIM, SUM_DK>(a);
        if (!error && a->d_v.data) error = launch<T, DIM, SUM_DV>(a);
    }
    return error;
}

template <typename T> static int backward(const nabla_cuda_attention *a) {
    if (a->head_dim <= 64) return launch_all<T, 64>(a);
    if (a->head_dim <= 128) return launch_all<T, 128>(a);
    return a->head_dim <= 192 ? launch_all<T, 192>(a) : launch_all<T, 256>(a);
}

extern "C" int nabla_cuda_backward_sm80(const nabla_cuda_attention *a) {
    if (a->dtype == NABLA_FP32) return sm80_backward_fp32(a);
    return a->dtype == NABLA_FP16 ? backward<__half>(a) : backward<__nv_bfloat16>(a);
}

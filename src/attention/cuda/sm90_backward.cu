/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention backward on Hopper, two passes of one kernel. A unit's own rows stay in shared memory, those of its partner
 * blocks come through the ring (sm90_ring.cuh), and sums over partners stay in registers; so no two thread blocks add
 * to the same number, and the bits are the same on every run.
 *
 *     pass         own rows   partners   per block                                    sums
 *     KEYS true    K, V       Q, dO      S^T = K Q^T, dP^T = V dO^T                   dV += P^T dO, dK += dS^T Q
 *     KEYS false   Q, dO      K, V       S = Q K^T, dP = dO V^T                       dQ += dS K
 *
 * with P = exp2(slope S - lse) and dS = P (alpha dP - delta) (FlashAttention-2, arXiv 2307.08691, algorithm 2). Seven
 * products instead of the five that atomic additions to dQ would need; the price of an order.
 */
#include "sm90_launch.cuh"
#include "sm90_ring.cuh"

template <int D> struct backward_shared {
    static constexpr int STAGES = D == 128 ? 2 : 4, TILE = D / 64 * PANEL_BYTES;
    char first[STAGES][2 * TILE], second[STAGES][2 * TILE]; /* Q and dO, or K and V */
    char own[UNITS][2][TILE];
    float stats[STAGES][2][2][64]; /* of a stage's rows, where they are queries: half; lse, delta */
    ring<STAGES> r;
};

typedef struct backward_args {
    CUtensorMap own[2], partner[2];
    nabla_cuda_attention a;
    int32_t *counter;
} backward_args;

/* One warpgroup's sums: [0] over dS, [1] over P. */
template <typename T, int D, bool KEYS> struct backward_unit {
    static constexpr int STAGES = backward_shared<D>::STAGES, TILE = backward_shared<D>::TILE;
    backward_shared<D> *s;
    ring_reader<STAGES> reader;
    float slope, alpha;
    float over_ds[D / 2], over_p[KEYS ? D / 2 : 1];
    float row_lse[2], row_delta[2]; /* of this thread's rows, where they are queries */

    __device__ __forceinline__ backward_unit(backward_shared<D> *shared, int unit, const nabla_cuda_attention &a)
        : s(shared), reader(&shared->r, unit), slope(a.scale * 1.44269504088896341f), alpha(a.alpha) {
    }

    /* Statistics of the queries that x[i] belongs to. */
    __device__ __forceinline__ float2 column_stats(const float *stats, int i) const {
        return *(const float2 *)(stats + i / 4 * 8 + threadIdx.x % 4 * 2);
    }

    /* Scores become probabilities; columns from `count` on, 0. */
    __device__ __forceinline__ void soften(float (&x)[32], const float *lse, int32_t count) {
#pragma unroll
        for (int i = 0; i < 32; i += 2) {
            const float2 of = KEYS ? column_stats(lse, i) : make_float2(row_lse[i / 2 % 2], row_lse[i / 2 % 2]);
            x[i] = exp2_fast(fmaf(x[i], slope, -of.x));
            x[i + 1] = exp2_fast(fmaf(x[i + 1], slope, -of.y));
        }
        if (count < 64) clear_columns(x, count);
    }

    __device__ __forceinline__ void clear_columns(float (&x)[32], int32_t count) const {
#pragma unroll
        for (int i = 0; i < 32; i++)
            x[i] = i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2 < count ? x[i] : 0;
    }

    /* p (alpha dp - delta), in place of p. */
    __device__ __forceinline__ void differentiate(float (&p)[32], const float (&dp)[32], const float *delta,
                                                  int32_t count) {
#pragma unroll
        for (int i = 0; i < 32; i += 2) {
            const float2 of = KEYS ? column_stats(delta, i) : make_float2(row_delta[i / 2 % 2], row_delta[i / 2 % 2]);
            p[i] *= fmaf(alpha, dp[i], -of.x);
            p[i + 1] *= fmaf(alpha, dp[i + 1], -of.y);
        }
        if (count < 64) clear_columns(p, count);
    }

    /* The unit's own tiles. */
    __device__ __forceinline__ uint64_t own(int which) const {
        return operand_at(uniform(shared_address(s->own[reader.unit][which])));
    }

    /* One block of the stage in `slot`. */
    __device__ __forceinline__ void block(int slot, int half, int32_t count) {
        /* addresses, not operands: those take twice the registers, of which there are none left */
        const uint32_t first = uniform(shared_address(s->first[slot]) + half * TILE);
        const uint32_t second = uniform(shared_address(s->second[slot]) + half * TILE);
        const float *stats = &s->stats[slot][half][0][0];
        float x[32], dp[32];
        uint32_t p[16], ds[16];
        products_begin();
        scores<T, D>(x, own(0), operand_at(first));
        products_commit();
        scores<T, D>(dp, own(1), operand_at(second));
        products_commit();
        products_wait<1>();
        settled(x);
        soften(x, stats, count);
        if constexpr (KEYS) {
            pack_operand<T>(p, x);
            products_begin();
            weigh<T, D>(over_p, p, operand_at(second));
            products_commit();
            products_wait<1>();
        } else {
            products_wait<0>();
        }
        settled(dp);
        differentiate(x, dp, stats + 64, count);
        pack_operand<T>(ds, x);
        products_begin();
        weigh<T, D>(over_ds, ds, operand_at(first));
        products_commit();
        products_wait<0>();
        settled(over_ds);
        if constexpr (KEYS) settled(over_p);
    }

    /* Rows of other blocks become zero: they are terms of the sums. */
    __device__ __forceinline__ void clear(int slot, int32_t tag) {
        bool ragged = false;
        for (int half = 0; half < 2; half++) {
            const int32_t count = tag_rows(tag, half);
            if (!tag_mine(tag, half, reader.unit) || count == 64) continue;
            clear_rows<D>(s->first[slot] + half * TILE, count);
            clear_rows<D>(s->second[slot] + half * TILE, count);
            ragged = true;
        }
        if (ragged) {
            fence_async();
            warpgroup_sync(reader.unit);
        }
    }

    __device__ __forceinline__ void begin(const nabla_cuda_attention &a, const row_task &task) {
        const int64_t delta = (int64_t)a.plan.batch * a.plan.heads * a.row_stats_stride;
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            over_ds[i] = 0;
#pragma unroll
        for (int i = 0; i < (KEYS ? D / 2 : 1); i++)
            over_p[i] = 0;
        for (int r = 0; r < 2 && !KEYS; r++) {
            const float *stats = a.row_stats + task.head * a.row_stats_stride + task.first + row_of(r);
            row_lse[r] = stats[0]; /* past the tokens +inf, and a delta of 0 */
            row_delta[r] = stats[delta];
        }
    }

    /* This thread's row r of the unit. */
    __device__ __forceinline__ int row_of(int r) const {
        const int thread = threadIdx.x % WARPGROUP;
        return thread / 32 * 16 + thread % 32 / 4 + 8 * r;
    }

    __device__ __forceinline__ void store(const nabla_cuda_attention &a, const nabla_cuda_tensor &t,
                                          const row_task &task, const float (&x)[D / 2], float factor) const {
        if (!t.data) return;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int row = row_of(r);
            if (row >= task.count) continue;
            const int64_t at = task.batch * t.batch + (task.first + row) * t.row + task.head_in_batch * t.head;
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                store_pair<T>(t, at, j * 8 + threadIdx.x % 4 * 2, a.head_dim, x[4 * j + 2 * r] * factor,
                              x[4 * j + 2 * r + 1] * factor, 0);
        }
    }

    __device__ __forceinline__ void run(const nabla_cuda_attention &a) {
        row_task task;
        while (reader.begin(&task)) {
            begin(a, task);
            for (reader.look(); reader.more; reader.look()) {
                const int32_t tag = reader.tag;
                const int slot = reader.take_first();
                reader.take_second();
                clear(slot, tag);
#pragma unroll 1
                for (int part = 0; part < 2; part++)
                    if (tag_mine(tag, part, reader.unit)) block(slot, part, tag_rows(tag, part));
                reader.release_first(slot);
                reader.release_second(slot);
            }
            reader.release_job();
            if constexpr (KEYS) {
                store(a, a.d_k, task, over_ds, a.scale);
                store(a, a.d_v, task, over_p, a.alpha);
            } else {
                store(a, a.d_q, task, over_ds, a.scale);
            }
        }
    }
};

/* Statistics of a stage's rows that do not begin on 16 bytes, as ragged blocks may: by a warp, number by number. Few
   registers: the warp has none to spare. */
static __device__ __forceinline__ void load_stats(float (*to)[2][64], const float *from, int64_t deltas, int32_t row0,
                                                  int32_t row1, int32_t tag) {
#pragma unroll 1
    for (int half = 0; half < 2 && threadIdx.x % 32 < WRITERS; half++)
#pragma unroll 1
        for (int row = threadIdx.x % 32; row < tag_rows(tag, half); row += WRITERS) {
            const float *at = from + (half ? row1 : row0) + row;
            to[half][0][row] = __ldg(at);
            to[half][1][row] = __ldg(at + deltas);
        }
    __syncwarp();
}

template <int D, bool KEYS, ring_role ROLE>
__device__ __forceinline__ void backward_feed(const backward_args &g, backward_shared<D> *s) {
    constexpr int STAGES = backward_shared<D>::STAGES, TILE = backward_shared<D>::TILE;
    const nabla_cuda_plan &plan = g.a.plan;
    const auto begin = [&](const ring_job &job) {
        barrier_expect(&s->r.job_full, (job.unit[1].block < 0 ? 2 : 4) * TILE);
        for (int i = 0; i < UNITS; i++)
            for (int which = 0; which < 2 && job.unit[i].block >= 0; which++)
                copy_tile<D>(s->own[i][which], &g.own[which], &s->r.job_full, job.unit[i].first, job.head_in_batch,
                             job.batch, READ_ONCE);
    };
    const int64_t stride = g.a.row_stats_stride, deltas = plan.batch * plan.heads * stride;
    const auto copy = [&](int slot, int32_t row0, int32_t row1, int32_t tag, const ring_job &job,
                          const ring_gate &gate) {
        constexpr bool STATS = KEYS && ROLE == FIRST; /* the queries' statistics come with them */
        const float *const from = g.a.row_stats + job.head * stride;
        uint64_t *full = ROLE == FIRST ? &s->r.first_full[slot] : &s->r.second_full[slot];
        const bool bulk = (row0 | row1) % 4 == 0;
        gate.pass();
        if (STATS && !bulk) load_stats(s->stats[slot], from, deltas, row0, row1, tag);
        if (threadIdx.x % 32) return;
        barrier_expect(full, ring_tiles(tag) * (TILE + (STATS && bulk ? 512 : 0)));
        ring_copy<D>(ROLE == FIRST ? s->first[slot] : s->second[slot], &g.partner[ROLE], full, row0, row1, tag, job);
        for (int half = 0; half < 2 && STATS && bulk; half++)
            if (tag_rows(tag, half))
                for (int which = 0; which < 2; which++)
                    copy_bytes(s->stats[slot][half][which], from + which * deltas + (half ? row1 : row0), 256, full);
    };
    const nabla_cuda_side &own = KEYS ? plan.k : plan.q, &partner = KEYS ? plan.q : plan.k;
    ring_feed<STAGES, ROLE, false, false>(&s->r, plan, own, partner, KEYS ? plan.columns : plan.rows, g.counter, begin,
                                          copy);
}

template <typename T, int D, bool KEYS>
__global__ void __launch_bounds__(RING_THREADS, 1) backward_kernel(const __grid_constant__ backward_args g) {
    NABLA_LAUNCH_SHARED(raw, 128);
    backward_shared<D> *s = (backward_shared<D> *)(raw + (1024 - shared_address(raw) % 1024) % 1024);
    const int warpgroup = threadIdx.x / WARPGROUP;
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            prefetch_map(&g.own[i]);
            prefetch_map(&g.partner[i]);
        }
        ring_init(&s->r);
    }
    __syncthreads();
    if (warpgroup == UNITS) {
        fewer_registers<FEED_REGISTERS>();
        const int warp = threadIdx.x / 32 - UNITS * 4;
        if (warp == 0) backward_feed<D, KEYS, FIRST>(g, s);
        if (warp == 1) backward_feed<D, KEYS, SECOND>(g, s);
    } else {
        more_registers<UNIT_REGISTERS>();
        backward_unit<T, D, KEYS>(s, warpgroup, g.a).run(g.a);
    }
}

template <typename T, int D> static int launch(const nabla_cuda_attention *a) {
    const int32_t sq = a->plan.q.tokens, sk = a->plan.k.tokens;
    CUtensorMap q, k, v, d_o;
    cudaError_t e = map_tensor(&q, &a->q, a, sq);
    if (!e) e = map_tensor(&d_o, &a->d_o, a, sq);
    if (!e) e = map_tensor(&k, &a->k, a, sk);
    if (!e) e = map_tensor(&v, &a->v, a, sk);
    if (e) return e;
    const backward_args keys = {{k, v}, {q, d_o}, *a, (int32_t *)a->workspace};
    const backward_args queries = {{q, d_o}, {k, v}, *a, (int32_t *)a->workspace + 1};
    const size_t shared = sizeof(backward_shared<D>);
    int code = cudaSuccess;
    if (a->d_k.data || a->d_v.data)
        code = launch_jobs(backward_kernel<T, D, true>, keys, shared, a->plan.k.pair_count, RING_THREADS, 1);
    if (!code && a->d_q.data)
        code = launch_jobs(backward_kernel<T, D, false>, queries, shared, a->plan.q.pair_count, RING_THREADS, 1);
    return code;
}

extern "C" bool nabla_cuda_backward_sm90_takes(const nabla_cuda_attention *a) {
    return nabla_cuda_forward_sm90_takes(a) && a->d_o.dtype == a->dtype && can_map(&a->d_o, &a->plan);
}

extern "C" int nabla_cuda_backward_sm90(const nabla_cuda_attention *a) {
    const bool wide = a->head_dim > 64;
    if (a->dtype == NABLA_FP16) return wide ? launch<__half, 128>(a) : launch<__half, 64>(a);
    return wide ? launch<__nv_bfloat16, 128>(a) : launch<__nv_bfloat16, 64>(a);
}

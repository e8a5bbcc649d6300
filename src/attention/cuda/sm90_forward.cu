/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention forward on Hopper. Two warpgroups own 64 query rows each and share the ring of key blocks (sm90_ring.cuh).
 * A warpgroup keeps its queries, a stage's scores and the output in registers. It starts the scores of one stage and
 * the weighted values of the stage before together, and takes the exponentials of those scores while the values are
 * still under way. The running maximum of FlashAttention (arXiv 2205.14135) moves only when a row's weights would grow
 * by more than a factor of 2^8: what is stale in it cancels in the end.
 */
#include "sm90_launch.cuh"

#include <math.h>

template <int D> struct forward_shared {
    static constexpr int STAGES = D == 128 ? 3 : 6, TILE = D / 64 * PANEL_BYTES;
    char keys[STAGES][2 * TILE], values[STAGES][2 * TILE];
    char queries[UNITS][TILE];
    ring<STAGES> r;
};

typedef struct forward_args {
    CUtensorMap q, k, v;
    nabla_cuda_attention a;
    int32_t *counter;
} forward_args;

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
            fade[r] = higher == -INFINITY ? 1.0f : power_of_two((max[r] - higher) * slope);
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
            x = power_of_two(fmaf(x, slope, shift[i / 2 % 2]));
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
__device__ __forceinline__ void store_output(const nabla_cuda_attention &a, const ring_task &task, const running &rows,
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

template <typename T, int D> struct forward_unit {
    static constexpr int STAGES = forward_shared<D>::STAGES;
    forward_shared<D> *s;
    ring_reader<STAGES> reader;
    float slope;
    uint32_t q[D / 4];
    float o[D / 2];
    running rows;

    __device__ __forceinline__ forward_unit(forward_shared<D> *shared, int unit, float scale)
        : s(shared), reader(&shared->r, unit), slope(fabsf(scale) * 1.44269504088896341f) {
    }

    /* Which half of a stage the unit's block n of N is. */
    template <int N> __device__ __forceinline__ int half_of(int32_t tag, int n) const {
        return N == 2 ? n : !tag_mine(tag, 0, reader.unit);
    }

    template <int N> __device__ __forceinline__ void issue_scores(float (&scored)[N][32], int slot, int32_t tag) {
        const uint64_t keys = operand(s->keys[slot]);
        products_begin();
#pragma unroll
        for (int n = 0; n < N; n++)
            scores<T, D>(scored[n], q, moved(keys, half_of<N>(tag, n) * forward_shared<D>::TILE));
        products_commit();
    }

    template <int N> __device__ __forceinline__ void issue_values(const uint32_t (&p)[N][16], int slot, int32_t tag) {
        const uint64_t values = operand(s->values[slot]);
        products_begin();
#pragma unroll
        for (int n = 0; n < N; n++)
            weigh<T, D>(o, p[n], moved(values, half_of<N>(tag, n) * forward_shared<D>::TILE));
        products_commit();
    }

    /* Takes the values of the stage with this tag; rows of other blocks become zero. */
    __device__ __forceinline__ int take_values(int32_t tag) {
        const int slot = reader.take_second();
        bool ragged = false;
        for (int half = 0; half < 2; half++) {
            const int32_t rows = tag_rows(tag, half);
            if (!tag_mine(tag, half, reader.unit) || rows == 64) continue;
            clear_rows<D>(s->values[slot] + half * forward_shared<D>::TILE, rows);
            ragged = true;
        }
        if (ragged) {
            fence_async();
            warpgroup_sync(reader.unit);
        }
        return slot;
    }

    template <int N> __device__ __forceinline__ void soften(float (&scored)[N][32], int32_t tag) {
        int32_t count[N];
#pragma unroll
        for (int n = 0; n < N; n++)
            count[n] = tag_rows(tag, half_of<N>(tag, n));
        rows.step(scored, count, slope);
    }

    template <int N> __device__ __forceinline__ void end_scores(float (&scored)[N][32], int slot) {
#pragma unroll
        for (int n = 0; n < N; n++)
            settled(scored[n]);
        reader.release_first(slot);
    }

    __device__ __forceinline__ void end_values(int slot) {
        settled(o);
        reader.release_second(slot);
    }

    template <int N> __device__ __forceinline__ void to_operand(uint32_t (&p)[N][16], const float (&scored)[N][32]) {
        rows.apply(o);
#pragma unroll
        for (int n = 0; n < N; n++)
            pack_operand<T>(p[n], scored[n]);
    }

    /* Looks for this unit's next stage, passing by one of the other's; how many that were. */
    __device__ __forceinline__ int look() {
        reader.look();
        if (!reader.more || reader.mine() > 0) return 0;
        reader.skip_first();
        return 1;
    }

    /* Stages with N blocks of this unit, as long as such follow. The scores of one stage are under way together with
       the weighted values of the stage before; the exponentials hide the latter. */
    template <int N> __device__ __forceinline__ void stages() {
        float scored[N][32];
        uint32_t p[N][16];
        int32_t tag = reader.tag;
        int keys = reader.take_first(), values;
        issue_scores(scored, keys, tag);
        int passed = look(); /* while they come */
        products_wait<0>();
        end_scores(scored, keys);
        soften(scored, tag);
        to_operand(p, scored);
        while (reader.mine() == N) {
            const int32_t before = tag, passed_before = passed;
            tag = reader.tag;
            keys = reader.take_first();
            values = take_values(before);
            issue_scores(scored, keys, tag);
            issue_values(p, values, before);
            if (passed_before) reader.skip_second();
            passed = look();
            products_wait<1>();
            end_scores(scored, keys);
            soften(scored, tag);
            computed(rows.sum[0] + rows.sum[1]);
            products_wait<0>();
            end_values(values);
            to_operand(p, scored);
        }
        values = take_values(tag);
        issue_values(p, values, tag);
        if (passed) reader.skip_second();
        products_wait<0>();
        end_values(values);
    }

    __device__ __forceinline__ void load_queries(float scale) {
        load_operand<D>(q, shared_address(s->queries[reader.unit]));
        if (scale < 0) /* the maximum wants a slope above 0 */
#pragma unroll
            for (int i = 0; i < D / 4; i++)
                q[i] ^= 0x80008000u;
        reader.release_job();
    }

    __device__ __forceinline__ void run(const nabla_cuda_attention &a) {
        ring_task task;
        while (reader.begin(&task)) {
            load_queries(a.scale);
            rows = running();
#pragma unroll
            for (int i = 0; i < D / 2; i++)
                o[i] = 0;
            reader.look();
            while (reader.more) {
                const int32_t mine = reader.mine();
                if (mine == 2) {
                    stages<2>();
                } else if (mine == 1) {
                    stages<1>();
                } else {
                    reader.skip_first();
                    reader.skip_second();
                }
            }
            store_output<T, D>(a, task, rows, o, slope);
        }
    }
};

template <int D, ring_role ROLE>
__device__ __forceinline__ void forward_feed(const forward_args &g, forward_shared<D> *s) {
    constexpr int STAGES = forward_shared<D>::STAGES, TILE = forward_shared<D>::TILE;
    const auto begin = [&](const ring_job &job) {
        barrier_expect(&s->r.job_full, (job.unit[1].block < 0 ? 1 : 2) * TILE);
        for (int i = 0; i < UNITS; i++)
            if (job.unit[i].block >= 0)
                copy_tile<D>(s->queries[i], &g.q, &s->r.job_full, job.unit[i].first, job.head_in_batch, job.batch,
                             READ_ONCE);
    };
    const auto copy = [&](int slot, int32_t row0, int32_t row1, int32_t tag, const ring_job &job,
                          const ring_gate &gate) {
        gate.pass();
        if (threadIdx.x % 32) return;
        constexpr bool KEYS = ROLE == FIRST;
        uint64_t *full = KEYS ? &s->r.first_full[slot] : &s->r.second_full[slot];
        barrier_expect(full, ring_tiles(tag) * TILE);
        ring_copy<D>(KEYS ? s->keys[slot] : s->values[slot], KEYS ? &g.k : &g.v, full, row0, row1, tag, job);
    };
    const nabla_cuda_plan &plan = g.a.plan;
    ring_feed<STAGES, ROLE, true>(&s->r, plan, plan.q, plan.k, plan.rows, g.counter, begin, copy);
}

template <typename T, int D>
__global__ void __launch_bounds__(RING_THREADS, 1) forward_kernel(const __grid_constant__ forward_args g) {
    extern __shared__ char raw[];
    forward_shared<D> *s = (forward_shared<D> *)(raw + (1024 - shared_address(raw) % 1024) % 1024);
    const int warpgroup = threadIdx.x / WARPGROUP;
    if (threadIdx.x == 0) {
        prefetch_map(&g.q);
        prefetch_map(&g.k);
        prefetch_map(&g.v);
        ring_init(&s->r);
    }
    __syncthreads();
    if (warpgroup == UNITS) {
        fewer_registers<FEED_REGISTERS>();
        const int warp = threadIdx.x / 32 - UNITS * 4;
        if (warp == 0) forward_feed<D, FIRST>(g, s);
        if (warp == 1) forward_feed<D, SECOND>(g, s);
    } else {
        more_registers<UNIT_REGISTERS>();
        forward_unit<T, D>(s, warpgroup, g.a.scale).run(g.a);
    }
}

template <typename T, int D> static int launch(const nabla_cuda_attention *a) {
    forward_args g;
    g.a = *a;
    g.counter = (int32_t *)a->workspace;
    cudaError_t e = map_tensor(&g.q, &a->q, a, a->plan.q.tokens);
    if (!e) e = map_tensor(&g.k, &a->k, a, a->plan.k.tokens);
    if (!e) e = map_tensor(&g.v, &a->v, a, a->plan.k.tokens);
    return e ? e : launch_ring(forward_kernel<T, D>, g, sizeof(forward_shared<D>), a, a->plan.q.pair_count);
}

extern "C" bool nabla_cuda_forward_sm90_takes(const nabla_cuda_attention *a) {
    return a->dtype != NABLA_FP32 && a->head_dim <= 128 && can_map(&a->q, &a->plan) && can_map(&a->k, &a->plan) &&
           can_map(&a->v, &a->plan);
}

extern "C" int nabla_cuda_forward_sm90(const nabla_cuda_attention *a) {
    const bool wide = a->head_dim > 64;
    if (a->dtype == NABLA_FP16) return wide ? launch<__half, 128>(a) : launch<__half, 64>(a);
    return wide ? launch<__nv_bfloat16, 128>(a) : launch<__nv_bfloat16, 64>(a);
}

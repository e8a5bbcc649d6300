/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention forward on Hopper. Two warpgroups own 64 query rows each and share the ring of key blocks (sm90_ring.cuh).
 * A warpgroup keeps its queries, a stage's scores and the output in registers. It starts the scores of one stage and
 * the weighted values of the stage before together, and takes the exponentials of those scores while the values are
 * still under way.
 */
#include "sm90_forward.cuh"
#include "sm90_ring.cuh"
#include "sm90_softmax.cuh"

template <int D> struct forward_shared {
    static constexpr int STAGES = 3, TILE = D / 64 * PANEL_BYTES;
    char keys[STAGES][2 * TILE], values[STAGES][2 * TILE];
    char queries[UNITS][TILE];
    ring<STAGES> r;
};

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
        row_task task;
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
    ring_feed<STAGES, ROLE, true, true>(&s->r, plan, plan.q, plan.k, plan.rows, g.counter, begin, copy);
}

template <typename T, int D>
__global__ void __launch_bounds__(RING_THREADS, 1) forward_kernel(const __grid_constant__ forward_args g) {
    NABLA_LAUNCH_SHARED(raw, 128);
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

template <typename T> static int launch_pairs(const forward_args &g) {
    return launch_jobs(forward_kernel<T, 128>, g, sizeof(forward_shared<128>), g.a.plan.q.pair_count, RING_THREADS, 1);
}

extern "C" bool nabla_cuda_forward_sm90_takes(const nabla_cuda_attention *a) {
    return a->dtype != NABLA_FP32 && a->head_dim <= 128 && can_map(&a->q, &a->plan) && can_map(&a->k, &a->plan) &&
           can_map(&a->v, &a->plan);
}

extern "C" int nabla_cuda_forward_sm90(const nabla_cuda_attention *a) {
    forward_args g;
    g.a = *a;
    g.counter = (int32_t *)a->workspace;
    cudaError_t e = map_tensor(&g.q, &a->q, a, a->plan.q.tokens);
    if (!e) e = map_tensor(&g.k, &a->k, a, a->plan.k.tokens);
    if (!e) e = map_tensor(&g.v, &a->v, a, a->plan.k.tokens);
    if (e) return e;
    if (a->head_dim > 64) {
        const int code = a->dtype == NABLA_FP16 ? launch_pairs<__half>(g) : launch_pairs<__nv_bfloat16>(g);
        if (code) return code;
        g.counter++;
    }
    return nabla_cuda_forward_lone(g);
}

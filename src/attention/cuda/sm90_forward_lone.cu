/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention forward on Hopper, a warpgroup for itself: where neighbouring query blocks keep different key blocks, so
 * that nothing is gained by sharing them, and for short heads, whose softmax takes longer than their copies. A thread
 * block is one warpgroup and owns 64 query rows; three of them on a multiprocessor hide each other's waits. Its first
 * thread copies a step's keys when those before have been multiplied, and its values when those before have. As in
 * sm90_forward.cu, the scores of one step are under way together with the weighted values of the step before.
 */
#include "sm90_forward.cuh"
#include "sm90_softmax.cuh"
#include "sm90_walk.cuh"

/* A step takes BLOCKS key blocks, as many as registers hold the scores of. */
template <int D> struct lone_shared {
    static constexpr int TILE = D / 64 * PANEL_BYTES, BLOCKS = D == 128 ? 1 : 2, PER_PROCESSOR = 3;
    char queries[TILE], keys[BLOCKS * TILE], values[2][BLOCKS * TILE];
    uint64_t queries_full, keys_full, values_full[2];
    int32_t number;
};

template <typename T, int D> struct lone_unit {
    static constexpr int BLOCKS = lone_shared<D>::BLOCKS, TILE = lone_shared<D>::TILE;

    /* The key rows of a step. */
    struct step {
        int32_t row[BLOCKS], count[BLOCKS]; /* counts are 0 from the first block on that is not there */
    };

    const forward_args &g;
    lone_shared<D> *s;
    float slope;
    row_walk walk;
    head_finder heads;
    uint32_t queries_parity = 0, keys_parity = 0;
    ring_place<2> values;
    int32_t head, batch, head_in_batch;
    float o[D / 2];
    running rows;

    __device__ __forceinline__ lone_unit(const forward_args &args, lone_shared<D> *shared)
        : g(args), s(shared), slope(fabsf(args.a.scale) * 1.44269504088896341f) {
    }

    __device__ __forceinline__ step next_step() {
        step to;
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            to.count[n] = n > 0 && !to.count[n - 1] ? 0 : walk.next(g.a.plan.k.offsets, &to.row[n]);
        return to;
    }

    __device__ __forceinline__ void copy(char *to, const CUtensorMap *map, uint64_t *full, const step &of) const {
        if (threadIdx.x || !of.count[0]) return;
        barrier_expect(full, (BLOCKS == 1 || !of.count[BLOCKS - 1] ? 1 : 2) * TILE);
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            if (of.count[n]) copy_tile<D>(to + n * TILE, map, full, of.row[n], head_in_batch, batch, READ_OFTEN);
    }

    __device__ __forceinline__ void copy_keys(const step &of) const {
        copy(s->keys, &g.k, &s->keys_full, of);
    }

    __device__ __forceinline__ void copy_values(int slot, const step &of) const {
        copy(s->values[slot], &g.v, &s->values_full[slot], of);
    }

    __device__ __forceinline__ void issue_scores(float (&scored)[BLOCKS][32]) {
        const uint64_t q = operand_at(shared_address(s->queries)), k = operand_at(shared_address(s->keys));
        barrier_wait(&s->keys_full, keys_parity);
        keys_parity ^= 1;
        products_begin();
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            scores<T, D>(scored[n], q, moved(k, n * TILE));
        products_commit();
    }

    /* Rows of other blocks become zero. */
    __device__ __forceinline__ void issue_values(const uint32_t (&p)[BLOCKS][16], const step &of) {
        const uint64_t v = operand_at(shared_address(s->values[values.slot]));
        barrier_wait(&s->values_full[values.slot], values.parity);
        if (of.count[BLOCKS - 1] < 64 || of.count[0] < 64) {
#pragma unroll
            for (int n = 0; n < BLOCKS; n++)
                clear_rows<D>(s->values[values.slot] + n * TILE, of.count[n]);
            fence_async();
            __syncthreads();
        }
        products_begin();
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            weigh<T, D>(o, p[n], moved(v, n * TILE));
        products_commit();
    }

    __device__ __forceinline__ void to_operand(uint32_t (&p)[BLOCKS][16], const float (&scored)[BLOCKS][32]) {
        rows.apply(o);
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            pack_operand<T>(p[n], scored[n]);
    }

    /* All steps of a row: the weights of one are multiplied with its values when the next one's scores are. */
    __device__ __forceinline__ void walk_over() {
        float scored[BLOCKS][32];
        uint32_t p[BLOCKS][16];
        step now = next_step(), next;
        copy_keys(now);
        copy_values(values.slot, now);
        if (!now.count[0]) return;
        issue_scores(scored);
        products_wait<0>();
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
            settled(scored[n]);
        __syncthreads(); /* all warps are done with the keys */
        next = next_step();
        copy_keys(next);
        copy_values(values.slot ^ 1, next);
        rows.step(scored, now.count, slope);
        to_operand(p, scored);
        while (next.count[0]) {
            issue_scores(scored);
            issue_values(p, now);
            products_wait<1>();
#pragma unroll
            for (int n = 0; n < BLOCKS; n++)
                settled(scored[n]);
            __syncthreads();
            now = next;
            next = next_step();
            copy_keys(next);
            rows.step(scored, now.count, slope);
            products_wait<0>();
            settled(o);
            __syncthreads(); /* and with the values */
            copy_values(values.slot, next);
            values.next();
            to_operand(p, scored);
        }
        issue_values(p, now);
        products_wait<0>();
        settled(o);
        values.next();
    }

    /* The maximum wants a slope above 0: with a negative scale it is the queries that change sign. */
    __device__ __forceinline__ void negate_queries() {
        for (int i = threadIdx.x; i < TILE / 16; i += WARPGROUP) {
            uint4 &x = ((uint4 *)s->queries)[i];
            x = make_uint4(x.x ^ 0x80008000u, x.y ^ 0x80008000u, x.z ^ 0x80008000u, x.w ^ 0x80008000u);
        }
        fence_async();
        __syncthreads();
    }

    __device__ __forceinline__ int32_t find_head(int32_t rank) {
        if (D > 64) return heads.find(g.a.plan, true, rank);
        return rank < g.a.plan.batch * g.a.plan.heads ? rank : -1;
    }

    __device__ __forceinline__ void run() {
        const nabla_cuda_plan &plan = g.a.plan;
        int32_t drawn = threadIdx.x == 0 ? atomicAdd(g.counter, 1) : 0;
        while (true) {
            if (threadIdx.x == 0) s->number = drawn;
            __syncthreads(); /* and nobody reads tiles of the job before any more */
            const int32_t number = uniform(s->number);
            head = find_head(number / plan.q.unit_count);
            if (head < 0) return;
            batch = head / plan.heads;
            head_in_batch = head % plan.heads;
            if (threadIdx.x == 0) drawn = atomicAdd(g.counter, 1); /* comes while this job is walked */
            const nabla_cuda_unit unit = plan.q.units[number % plan.q.unit_count];
            if (threadIdx.x == 0) {
                barrier_expect(&s->queries_full, TILE);
                copy_tile<D>(s->queries, &g.q, &s->queries_full, unit.first, head_in_batch, batch, READ_ONCE);
            }
            const int64_t row = (int64_t)(plan.sets == 1 ? 0 : head) * plan.q.blocks + unit.block;
            walk.begin(plan.rows + row * plan.k.words, plan.k.words,
                       walk_phase(pairing_of(plan, plan.q, head), number, lone_shared<D>::PER_PROCESSOR));
            rows = running();
#pragma unroll
            for (int i = 0; i < D / 2; i++)
                o[i] = 0;
            barrier_wait(&s->queries_full, queries_parity);
            queries_parity ^= 1;
            if (g.a.scale < 0) negate_queries();
            walk_over();
            const row_task task = {unit.first, unit.count, head, batch, head_in_batch};
            store_output<T, D>(g.a, task, rows, o, slope);
            __syncthreads(); /* all have read the job's number */
        }
    }
};

template <typename T, int D>
__global__ void __launch_bounds__(WARPGROUP, lone_shared<D>::PER_PROCESSOR)
    lone_kernel(const __grid_constant__ forward_args g) {
    NABLA_LAUNCH_SHARED(raw, 128);
    lone_shared<D> *s = (lone_shared<D> *)(raw + (1024 - shared_address(raw) % 1024) % 1024);
    if (threadIdx.x == 0) {
        prefetch_map(&g.q);
        prefetch_map(&g.k);
        prefetch_map(&g.v);
        barrier_init(&s->queries_full, 1);
        barrier_init(&s->keys_full, 1);
        barrier_init(&s->values_full[0], 1);
        barrier_init(&s->values_full[1], 1);
        barrier_init_done();
    }
    __syncthreads();
    lone_unit<T, D>(g, s).run();
}

template <typename T, int D> static int launch(const forward_args &g) {
    return launch_jobs(lone_kernel<T, D>, g, sizeof(lone_shared<D>), g.a.plan.q.unit_count, WARPGROUP,
                       lone_shared<D>::PER_PROCESSOR);
}

int nabla_cuda_forward_lone(const forward_args &g) {
    const bool wide = g.a.head_dim > 64;
    if (g.a.dtype == NABLA_FP16) return wide ? launch<__half, 128>(g) : launch<__half, 64>(g);
    return wide ? launch<__nv_bfloat16, 128>(g) : launch<__nv_bfloat16, 64>(g);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention forward on Hopper, a warpgroup for itself: where neighbouring query blocks keep different key blocks, so
 * that nothing is gained by sharing them, and for short heads, whose softmax takes longer than their copies. A thread
 * block is one warpgroup and owns 64 query rows; several on a multiprocessor hide each other's waits. Its first
 * thread copies a block's keys when those before have been multiplied, and its values when those before have. As in
 * sm90_forward.cu, the scores of one block are under way together with the weighted values of the block before.
 */
#include "sm90_forward.cuh"
#include "sm90_softmax.cuh"
#include "sm90_walk.cuh"

template <int D> struct lone_shared {
    static constexpr int TILE = D / 64 * PANEL_BYTES, PER_PROCESSOR = D == 128 ? 3 : 4;
    char queries[TILE], keys[TILE], values[2][TILE];
    uint64_t queries_full, keys_full, values_full[2];
    int32_t number;
};

template <typename T, int D> struct lone_unit {
    static constexpr int TILE = lone_shared<D>::TILE;

    /* Key rows, 64 at most. */
    struct step {
        int32_t row, count; /* 0: the walk is over */
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
        to.count = walk.next(g.a.plan.k.offsets, &to.row);
        return to;
    }

    __device__ __forceinline__ void copy(char *to, const CUtensorMap *map, uint64_t *full, int32_t row,
                                         cache_hint hint) const {
        if (threadIdx.x) return;
        barrier_expect(full, TILE);
        copy_tile<D>(to, map, full, row, head_in_batch, batch, hint);
    }

    __device__ __forceinline__ void copy_keys(const step &of) const {
        if (of.count) copy(s->keys, &g.k, &s->keys_full, of.row, READ_OFTEN);
    }

    __device__ __forceinline__ void copy_values(int slot, const step &of) const {
        if (of.count) copy(s->values[slot], &g.v, &s->values_full[slot], of.row, READ_OFTEN);
    }

    __device__ __forceinline__ void issue_scores(float (&scored)[1][32]) {
        barrier_wait(&s->keys_full, keys_parity);
        keys_parity ^= 1;
        products_begin();
        scores<T, D>(scored[0], operand_at(shared_address(s->queries)), operand_at(shared_address(s->keys)));
        products_commit();
    }

    /* Rows of other blocks become zero. */
    __device__ __forceinline__ void issue_values(const uint32_t (&p)[16], int32_t count) {
        char *const tile = s->values[values.slot];
        barrier_wait(&s->values_full[values.slot], values.parity);
        if (count < 64) {
            clear_rows<D>(tile, count);
            fence_async();
            __syncthreads();
        }
        products_begin();
        weigh<T, D>(o, p, operand_at(shared_address(tile)));
        products_commit();
    }

    __device__ __forceinline__ void soften(float (&scored)[1][32], int32_t count) {
        const int32_t columns[1] = {count};
        rows.step(scored, columns, slope);
    }

    /* All steps of a row: the weights of one are multiplied with its values when the next one's scores are. */
    __device__ __forceinline__ void walk_over() {
        float scored[1][32];
        uint32_t p[16];
        step now = next_step(), next;
        if (!now.count) return;
        copy_keys(now);
        copy_values(values.slot, now);
        issue_scores(scored);
        products_wait<0>();
        settled(scored[0]);
        __syncthreads(); /* all warps are done with the keys */
        next = next_step();
        copy_keys(next);
        copy_values(values.slot ^ 1, next);
        soften(scored, now.count);
        pack_operand<T>(p, scored[0]);
        while (next.count) {
            issue_scores(scored);
            issue_values(p, now.count);
            products_wait<1>();
            settled(scored[0]);
            __syncthreads();
            now = next;
            next = next_step();
            copy_keys(next);
            soften(scored, now.count);
            products_wait<0>();
            settled(o);
            __syncthreads(); /* and with the values */
            copy_values(values.slot, next);
            values.next();
            rows.apply(o);
            pack_operand<T>(p, scored[0]);
        }
        issue_values(p, now.count);
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
            copy(s->queries, &g.q, &s->queries_full, unit.first, READ_ONCE);
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

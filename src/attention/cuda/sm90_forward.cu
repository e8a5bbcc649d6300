/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention forward on Hopper. Two warpgroups own 64 query rows each and share the ring of key blocks (sm90_ring.cuh).
 * A warpgroup keeps its queries, the scores and the output in registers, and has two products under way at a time: the
 * scores of one block beside the weighted values of the block before, while the other warpgroup takes exponentials.
 * The running maximum of FlashAttention (arXiv 2205.14135) moves only when a row's has grown by a factor of 2^8: what
 * is stale in it cancels in the end.
 */
#include "sm90.cuh"
#include "sm90_launch.cuh"
#include "sm90_ring.cuh"

#include <math.h>

template <int D> struct forward_shared {
    static constexpr int STAGES = D == 128 ? 6 : 10, TILE = D / 64 * PANEL_BYTES;
    char keys[STAGES][TILE], values[STAGES][TILE];
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

    /* s: raw scores, becomes exp2(slope (s - max)). Columns from `count` on are left out. */
    __device__ __forceinline__ void step(float (&s)[32], int count, float slope) {
        if (count < 64) {
            const int column = threadIdx.x % 4 * 2;
#pragma unroll
            for (int i = 0; i < 32; i++)
                s[i] = i / 4 * 8 + column + i % 2 < count ? s[i] : -INFINITY;
        }
        float top[2] = {s[0], s[2]};
#pragma unroll
        for (int i = 0; i < 32; i++)
            top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[i]);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffff, top[r], 1));
            top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffff, top[r], 2));
        }
        const float slack = 8;
        fades = __any_sync(0xffffffff, (top[0] - max[0]) * slope > slack || (top[1] - max[1]) * slope > slack);
        if (fades) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float higher = fmaxf(max[r], top[r]);
                fade[r] = higher == -INFINITY ? 1.0f : exp2_fast((max[r] - higher) * slope);
                sum[r] *= fade[r];
                max[r] = higher;
            }
        }
        const float shift[2] = {max[0] == -INFINITY ? 0.0f : -max[0] * slope,
                                max[1] == -INFINITY ? 0.0f : -max[1] * slope};
#pragma unroll
        for (int i = 0; i < 32; i++)
            s[i] = exp2_fast(fmaf(s[i], slope, shift[i / 2 % 2]));
#pragma unroll
        for (int i = 0; i < 32; i++)
            sum[i / 2 % 2] += s[i];
    }

    template <int N> __device__ __forceinline__ void apply(float (&o)[N]) const {
        if (!fades) return;
#pragma unroll
        for (int i = 0; i < N; i++)
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

template <typename T, int D>
__device__ __forceinline__ void forward_unit(const nabla_cuda_attention &a, forward_shared<D> *s, int unit) {
    constexpr int STAGES = forward_shared<D>::STAGES;
    ring_reader<STAGES> reader(&s->r, unit);
    const float slope = fabsf(a.scale) * 1.44269504088896341f;
    const auto wait_values = [&](int slot, uint32_t parity, int count) {
        barrier_wait(&s->r.second_full[slot], parity);
        if (count == 64) return;
        clear_rows<D>(s->values[slot], count);
        fence_async();
        warpgroup_sync(unit);
    };
    ring_task task;
    while (reader.begin(&task)) {
        uint32_t q[D / 4], p[16];
        float o[D / 2], scored[32];
        running rows;
        load_operand<D>(q, shared_address(s->queries[unit]));
        if (a.scale < 0)
#pragma unroll
            for (int i = 0; i < D / 4; i++)
                q[i] ^= 0x80008000u;
        warpgroup_sync(unit);
        reader.release_job();
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            o[i] = 0;
        while (reader.more()) {
            if (!reader.mine()) continue;
            /* Nothing is under way: the first block of a run. */
            ring_place<STAGES> held = reader.place;
            int count = reader.tag >> TAG_ROWS;
            products_begin();
            scores<T, D>(scored, q, shared_address(s->keys[held.slot]));
            products_commit();
            products_wait<0>();
            settled(scored);
            rows.step(scored, count, slope);
            rows.apply(o);
            pack_operand<T>(p, scored);
            reader.place.next();
            /* Blocks of others pass by while its values wait; but not many, or the ring would stand still. */
            for (int passed = 0; reader.more() && passed < STAGES / 2;) {
                if (!reader.mine()) {
                    passed++;
                    continue;
                }
                const int slot = reader.place.slot;
                products_begin();
                scores<T, D>(scored, q, shared_address(s->keys[slot]));
                products_commit();
                wait_values(held.slot, held.parity, count);
                products_begin();
                weigh<T, D>(o, p, shared_address(s->values[held.slot]));
                products_commit();
                products_wait<1>();
                settled(scored);
                rows.step(scored, reader.tag >> TAG_ROWS, slope);
                computed(rows.sum[0] + rows.sum[1]);
                products_wait<0>();
                settled(o);
                reader.release(held.slot);
                rows.apply(o);
                pack_operand<T>(p, scored);
                held = reader.place;
                count = reader.tag >> TAG_ROWS;
                passed = 0;
                reader.place.next();
            }
            wait_values(held.slot, held.parity, count);
            products_begin();
            weigh<T, D>(o, p, shared_address(s->values[held.slot]));
            products_commit();
            products_wait<0>();
            settled(o);
            reader.release(held.slot);
        }
        reader.finish();
        store_output<T, D>(a, task, rows, o, slope);
    }
}

template <typename T, int D> __device__ __forceinline__ void forward_feed(const forward_args &g, forward_shared<D> *s) {
    constexpr int STAGES = forward_shared<D>::STAGES, TILE = forward_shared<D>::TILE;
    const auto begin = [&](const ring_job &job) {
        barrier_expect(&s->r.job_full, (job.unit[1].block < 0 ? 1 : 2) * TILE);
        for (int i = 0; i < UNITS; i++)
            if (job.unit[i].block >= 0)
                copy_tile<D>(s->queries[i], &g.q, &s->r.job_full, job.unit[i].first, job.head_in_batch, job.batch);
    };
    const auto copy = [&](int slot, int32_t row, const ring_job &job) {
        barrier_expect(&s->r.first_full[slot], TILE);
        copy_tile<D>(s->keys[slot], &g.k, &s->r.first_full[slot], row, job.head_in_batch, job.batch);
        barrier_expect(&s->r.second_full[slot], TILE);
        copy_tile<D>(s->values[slot], &g.v, &s->r.second_full[slot], row, job.head_in_batch, job.batch);
    };
    const nabla_cuda_plan &plan = g.a.plan;
    ring_feed<STAGES>(&s->r, plan, plan.q, plan.k, plan.rows, g.counter, begin, copy);
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
        fewer_registers<72>();
        if (threadIdx.x / 32 == UNITS * 4) forward_feed<T, D>(g, s);
    } else {
        more_registers<216>();
        forward_unit<T, D>(g.a, s, warpgroup);
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
    return a->dtype != NABLA_FP32 && a->head_dim <= 128 && can_map(&a->q) && can_map(&a->k) && can_map(&a->v);
}

extern "C" int nabla_cuda_forward_sm90(const nabla_cuda_attention *a) {
    const bool wide = a->head_dim > 64;
    if (a->dtype == NABLA_FP16) return wide ? launch<__half, 128>(a) : launch<__half, 64>(a);
    return wide ? launch<__nv_bfloat16, 128>(a) : launch<__nv_bfloat16, 64>(a);
}

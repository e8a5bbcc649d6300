/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How blocks reach the warpgroups that compute. A thread block owns a pair of units at a time; one warp walks the
 * blocks that the two keep and copies each, once, into the next stage of a ring in shared memory. A stage's tag says
 * which unit keeps it: the other passes it by. Blocks that both keep come first, so that they are loaded once for two;
 * then those of one alone, turn by turn, so that both stay busy. The order follows from the plan alone, and with it the
 * order of every sum.
 *
 * Which pair comes next is drawn from a counter. Pairs of one head follow each other, so that its rows stay in the
 * level-2 cache.
 */
#ifndef NABLA_SM90_RING_CUH
#define NABLA_SM90_RING_CUH

#include "sm90.cuh"

enum { UNITS = 2, RING_THREADS = (UNITS + 1) * WARPGROUP };

/* What the two warpgroups are to do next. */
typedef struct ring_job {
    nabla_cuda_unit unit[UNITS];
    int32_t head; /* b * H + h; -1: nothing is left */
    int32_t batch, head_in_batch;
    int32_t partners[UNITS]; /* 0: the unit keeps no block */
} ring_job;

/* One warpgroup's part of it. */
typedef struct ring_task {
    int32_t first, count; /* rows */
    int32_t head, batch, head_in_batch;
} ring_task;

/* A stage's tag: bits 0 and 1 say for which units it is, bits 2 and 3 for which it is the last, 8 and up its rows. */
enum { TAG_LAST = 2, TAG_ROWS = 8 };

template <int STAGES> struct ring {
    uint64_t first_full[STAGES], second_full[STAGES]; /* the stage's two tiles have come */
    uint64_t empty[STAGES];                           /* both warpgroups are done with it */
    uint64_t job_full, job_empty;
    int32_t tag[STAGES];
    ring_job job;
};

template <int STAGES> __device__ __forceinline__ void ring_init(ring<STAGES> *r) {
    for (int i = 0; i < STAGES; i++) {
        barrier_init(&r->first_full[i], 1);
        barrier_init(&r->second_full[i], 1);
        barrier_init(&r->empty[i], UNITS);
    }
    barrier_init(&r->job_full, 1);
    barrier_init(&r->job_empty, UNITS);
    barrier_init_done();
}

/* Where a warp or a warpgroup is in the ring. */
template <int STAGES> struct ring_place {
    int slot = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void next() {
        if (++slot == STAGES) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/* The bits of both sides of a job, a lane a word, in strips of 32 words. */
typedef struct ring_rows {
    const uint64_t *row[UNITS]; /* NULL: no unit */
    int32_t words;
} ring_rows;

__device__ __forceinline__ uint64_t ring_word(const ring_rows &rows, int unit, int word) {
    return rows.row[unit] && word < rows.words ? __ldg((const unsigned long long *)rows.row[unit] + word) : 0;
}

__device__ __forceinline__ int32_t ring_total(const ring_rows &rows, int unit) {
    int32_t total = 0;
    for (int strip = 0; strip < rows.words; strip += 32)
        total += __popcll(ring_word(rows, unit, strip + threadIdx.x % 32));
    return __reduce_add_sync(0xffffffff, total);
}

/* Walks the set bits of a strip of words, a word a lane. */
struct ring_bits {
    uint64_t mine, word = 0;
    int32_t at = -1;
    __device__ __forceinline__ explicit ring_bits(uint64_t word_of_lane) : mine(word_of_lane) {
    }
    /* The next bit, or -1; the same in all lanes. */
    __device__ __forceinline__ int32_t next() {
        while (!word) {
            if (at == 31) return -1;
            word = __shfl_sync(0xffffffff, mine, ++at);
        }
        const int32_t bit = __ffsll((long long)word) - 1;
        word &= word - 1;
        return at * 64 + bit;
    }
};

/* Calls push(row, count, tag) for each run of up to 64 rows of the blocks that the job's units keep. All lanes of a
   warp together. left: how many blocks each unit keeps. */
template <typename PUSH>
__device__ __forceinline__ void ring_walk(const ring_rows &rows, const int32_t *offsets, int32_t (&left)[UNITS],
                                          PUSH push) {
    const auto visit = [&](int32_t block, int32_t units) {
        const int32_t end = __ldg(offsets + block + 1);
        int32_t last = 0;
        if (units & 1) last |= --left[0] == 0 ? 1 : 0;
        if (units & 2) last |= --left[1] == 0 ? 2 : 0;
#pragma unroll 1
        for (int32_t row = __ldg(offsets + block); row < end; row += 64) {
            const int32_t count = end - row < 64 ? end - row : 64;
            push(row, count, units | (row + 64 >= end ? last << TAG_LAST : 0) | count << TAG_ROWS);
        }
    };
    for (int strip = 0; strip < rows.words; strip += 32) {
        const uint64_t a = ring_word(rows, 0, strip + threadIdx.x % 32);
        const uint64_t b = ring_word(rows, 1, strip + threadIdx.x % 32);
        ring_bits both(a & b), one(a & ~b), other(b & ~a);
        int32_t turn = 1;
#pragma unroll 1
        for (;;) {
            int32_t units = 3, i = both.next();
#pragma unroll 1
            for (int tries = 0; i < 0 && tries < 2; tries++, turn ^= 3) {
                units = turn;
                i = turn == 1 ? one.next() : other.next();
            }
            if (i < 0) break;
            visit(strip * 64 + i, units);
        }
    }
}

/* The warp that feeds the ring. rows: bits, [sets][own.blocks][partner.words]. begin(job) copies what belongs to the
   job itself, on job_full, and returns its bytes; copy(slot, row, head, batch) copies a stage. */
template <int STAGES, typename BEGIN, typename COPY>
__device__ __forceinline__ void ring_feed(ring<STAGES> *r, const nabla_cuda_plan &plan, const nabla_cuda_side &own,
                                          const nabla_cuda_side &partner, const uint64_t *bits, int32_t *counter,
                                          BEGIN begin, COPY copy) {
    const int lane = threadIdx.x % 32;
    const int32_t jobs = plan.batch * plan.heads * own.pair_count;
    ring_place<STAGES> place;
    int32_t drawn = lane == 0 ? atomicAdd(counter, 1) : 0;
    for (uint32_t job_parity = 1;; job_parity ^= 1) {
        const int32_t number = __shfl_sync(0xffffffff, drawn, 0);
        const int32_t head = number / own.pair_count, set = plan.sets == 1 ? 0 : head;
        ring_job job = {.head = -1};
        ring_rows rows = {.words = partner.words};
        if (number < jobs) {
            job.head = head;
            job.batch = head / plan.heads;
            job.head_in_batch = head % plan.heads;
            const int64_t pair = (int64_t)__ldg(own.pairing + set) * own.pair_count + number % own.pair_count;
            for (int i = 0; i < UNITS; i++) {
                job.unit[i] = own.pairs[pair * UNITS + i];
                const int32_t block = job.unit[i].block;
                rows.row[i] = block < 0 ? NULL : bits + ((int64_t)set * own.blocks + block) * partner.words;
                job.partners[i] = ring_total(rows, i);
            }
        }
        barrier_wait(&r->job_empty, job_parity);
        if (lane == 0) {
            r->job = job;
            if (job.head < 0)
                barrier_arrive(&r->job_full);
            else
                begin(job);
        }
        __syncwarp();
        if (job.head < 0) return;
        if (lane == 0) drawn = atomicAdd(counter, 1); /* comes while this job is walked */
        ring_walk(rows, partner.offsets, job.partners, [&](int32_t row, int32_t, int32_t tag) {
            barrier_wait(&r->empty[place.slot], place.parity ^ 1);
            if (lane == 0) {
                r->tag[place.slot] = tag;
                copy(place.slot, row, job);
            }
            place.next();
        });
    }
}

/* A warpgroup's reading of the ring. */
template <int STAGES> struct ring_reader {
    ring<STAGES> *r;
    int unit;
    uint32_t job_parity = 0;
    int32_t open = 0; /* units of the job whose last stage has not been seen */
    int32_t tag = 0;  /* of the stage found last */
    ring_place<STAGES> place;

    __device__ __forceinline__ ring_reader(ring<STAGES> *ring, int which) : r(ring), unit(which) {
    }

    __device__ __forceinline__ bool leader() const {
        return threadIdx.x % WARPGROUP == 0;
    }

    /* Waits for a job; false where there is none. */
    __device__ __forceinline__ bool begin(ring_task *task) {
        const ring_job *job = &r->job;
        barrier_wait(&r->job_full, job_parity);
        job_parity ^= 1;
        open = (job->partners[0] > 0) | (job->partners[1] > 0) << 1;
        *task = (ring_task){job->unit[unit].first, job->unit[unit].count, job->head, job->batch, job->head_in_batch};
        return job->head >= 0;
    }

    /* Whether stages of this unit are still to come. */
    __device__ __forceinline__ bool more() const {
        return open >> unit & 1;
    }

    /* What the job itself copied is no longer needed. Every thread has read it: the caller syncs before. */
    __device__ __forceinline__ void release_job() {
        if (leader()) barrier_arrive(&r->job_empty);
    }

    __device__ __forceinline__ void release(int slot) {
        if (leader()) barrier_arrive(&r->empty[slot]);
    }

    /* Looks at the next stage: this unit's (then `tag` is set, and advance() goes on after it), or else passes it by.
     */
    __device__ __forceinline__ bool mine() {
        barrier_wait(&r->first_full[place.slot], place.parity);
        tag = r->tag[place.slot];
        open &= ~(tag >> TAG_LAST);
        if (tag >> unit & 1) return true;
        release(place.slot);
        place.next();
        return false;
    }

    /* Passes by what is left of the job. */
    __device__ __forceinline__ void finish() {
        while (open)
            mine();
    }
};

#endif

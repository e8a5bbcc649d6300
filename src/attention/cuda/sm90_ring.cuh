/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How blocks reach the warpgroups that compute. A thread block owns a pair of units at a time. Two warps walk the
 * blocks that the pair keeps and copy them into a ring in shared memory, two blocks a stage: one warp the first tiles
 * of stages (keys, say), the other the second (values). They walk strips of 2048 blocks. In each first come stages of
 * two blocks that both units keep, loaded once for two; then blocks of each unit's own, by turns; then what is left of
 * the longer list. So both warpgroups go through all stages side by side, and a tag says which halves of a stage are
 * whose. The order follows from the plan alone, and with it the order of every sum.
 *
 * Which pair comes next is drawn from a counter. Pairs of one head follow each other, so that its rows stay in the
 * level-2 cache.
 */
#ifndef NABLA_SM90_RING_CUH
#define NABLA_SM90_RING_CUH

#include "sm90_launch.cuh"
#include "sm90_walk.cuh"

/* Registers a thread: what a thread block starts with, 168 each, is all that its roles can share. */
enum { UNITS = 2, RING_THREADS = (UNITS + 1) * WARPGROUP, FEED_REGISTERS = 40, UNIT_REGISTERS = 232 };
static_assert(FEED_REGISTERS + UNITS * UNIT_REGISTERS <= 168 * (UNITS + 1),
              "else the roles wait for registers for ever");

/* Lanes of a warp that say that it has read something: one, after a __syncwarp(); and lanes that write what one then
   says is there. The race checker does not see how __syncwarp() orders the others' reads and writes: for it, every lane
   says for itself what it has read, and only the one that speaks writes. */
#ifdef NABLA_RACECHECK
enum { READERS = 32, WRITERS = 1 };
#else
enum { READERS = 1, WRITERS = 32 };
#endif

/* What the two warpgroups are to do next. */
typedef struct ring_job {
    nabla_cuda_unit unit[UNITS];
    int32_t head; /* b * H + h; -1: nothing is left */
    int32_t batch, head_in_batch;
    int32_t blocks; /* kept by either unit */
    int32_t phase;  /* of WALK_PHASES: where the walk begins */
} ring_job;

/* A stage's tag. Half i belongs to unit u where bit 2 i + u is set; its rows are 7 bits from 8 + 8 i on. */
enum { TAG_LAST = 1 << 4 /* of the job */, TAG_ROWS = 8 };

__device__ __forceinline__ bool tag_mine(int32_t tag, int half, int unit) {
    return tag >> (2 * half + unit) & 1;
}

__device__ __forceinline__ int32_t tag_rows(int32_t tag, int half) {
    return tag >> (TAG_ROWS + 8 * half) & 127;
}

/* How many of a stage's halves are the unit's. */
__device__ __forceinline__ int32_t tag_count(int32_t tag, int unit) {
    return tag_mine(tag, 0, unit) + tag_mine(tag, 1, unit);
}

template <int STAGES> struct ring {
    uint64_t first_full[STAGES], second_full[STAGES];   /* a stage's first or second tiles have come */
    uint64_t first_empty[STAGES], second_empty[STAGES]; /* all that compute are done with them */
    uint64_t job_full, job_empty;
    int32_t tag[STAGES]; /* comes with the first tiles */
    ring_job job;
};

template <int STAGES> __device__ __forceinline__ void ring_init(ring<STAGES> *r) {
    for (int i = 0; i < STAGES; i++) {
        barrier_init(&r->first_full[i], 1);
        barrier_init(&r->second_full[i], 1);
        barrier_init(&r->first_empty[i], UNITS * 4 * READERS);
        barrier_init(&r->second_empty[i], UNITS * 4 * READERS);
    }
    barrier_init(&r->job_full, 1);
    barrier_init(&r->job_empty, (UNITS * 4 + 1) * READERS);
    barrier_init_done();
}

/* ---- feeding */

/* The bits of a job's two units. */
typedef struct ring_rows {
    const uint64_t *row[UNITS]; /* NULL: no unit */
    int32_t words;
} ring_rows;

__device__ __forceinline__ uint64_t ring_word(const ring_rows &rows, int unit, int word) {
    return rows.row[unit] && word < rows.words ? __ldg((const unsigned long long *)rows.row[unit] + word) : 0;
}

/* A strip of 32 words of both units, a word a lane, as three lists of blocks: those of both units (0), of the first
   alone (1), of the second alone (2). */
struct ring_strip {
    uint64_t a, b;       /* this lane's words */
    uint64_t through;    /* entries of the three lists in the lanes up to this one, 16 bits each */
    uint64_t all, start; /* entries in all lanes, and in those before the phase */
    int32_t both, alone_a, alone_b;

    __device__ __forceinline__ ring_strip(const ring_rows &rows, int first_word, int32_t phase) {
        const int lane = threadIdx.x % 32;
        a = ring_word(rows, 0, first_word + lane);
        b = ring_word(rows, 1, first_word + lane);
        through = (uint64_t)__popcll(a & b) | (uint64_t)__popcll(a & ~b) << 16 | (uint64_t)__popcll(b & ~a) << 32;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            const uint64_t before = __shfl_up_sync(0xffffffff, through, step);
            through += lane >= step ? before : 0;
        }
        const int32_t before = phase * min(rows.words - first_word, 32) / WALK_PHASES;
        all = __shfl_sync(0xffffffff, through, 31);
        start = __shfl_sync(0xffffffff, through, max(before - 1, 0));
        start = before == 0 ? 0 : start;
        both = (int32_t)(all & 0xffff);
        alone_a = (int32_t)(all >> 16 & 0xffff);
        alone_b = (int32_t)(all >> 32 & 0xffff);
    }

    /* Entry k of a list, counted from the strip's first block. All lanes together, each with a k of its own, which must
       be there where the result is used. */
    __device__ __forceinline__ int32_t entry(int which, int32_t k) const {
        const int32_t count = (int32_t)(all >> 16 * which & 0xffff);
        k += (int32_t)(start >> 16 * which & 0xffff);
        k -= k >= count ? count : 0;
        int lane = 0; /* the first with more than k entries through it */
#pragma unroll
        for (int step = 16; step; step /= 2) {
            const uint64_t at = __shfl_sync(0xffffffff, through, lane + step - 1);
            lane += (int32_t)(at >> 16 * which & 0xffff) <= k ? step : 0;
        }
        const uint64_t x = __shfl_sync(0xffffffff, a, lane), y = __shfl_sync(0xffffffff, b, lane);
        const uint64_t before = __shfl_sync(0xffffffff, through, lane > 0 ? lane - 1 : 0);
        const int32_t skipped = lane > 0 ? (int32_t)(before >> 16 * which & 0xffff) : 0;
        return lane * 64 + nth_bit(which == 0 ? x & y : which == 1 ? x & ~y : y & ~x, k - skipped);
    }

    __device__ __forceinline__ int32_t shared_stages() const {
        return (both + 1) / 2;
    }

    /* Stages of blocks that are one unit's alone, until the shorter list ends. TWOS: two blocks of one unit, and in the
       next stage two of the other; else one of each in every stage. */
    template <bool TWOS> __device__ __forceinline__ int32_t turns() const {
        const int32_t shorter = alone_a < alone_b ? alone_a : alone_b;
        return TWOS ? (shorter + 1) / 2 * 2 : shorter;
    }

    template <bool TWOS> __device__ __forceinline__ int32_t stages() const {
        const int32_t longer = alone_a < alone_b ? alone_b : alone_a;
        const int32_t left = longer - turns<TWOS>();
        return shared_stages() + turns<TWOS>() + (left > 0 ? (left + 1) / 2 : 0);
    }

    /* The two blocks of stage s, -1 where there is none, and whose they are. All lanes together. */
    template <bool TWOS> __device__ __forceinline__ void stage(int32_t s, int32_t (&block)[2], int32_t *owners) const {
        const int32_t longer = alone_a < alone_b ? 2 : 1;
        const int32_t turn = s - shared_stages(), left = turn - turns<TWOS>();
        int list[2] = {0, 0};
        int32_t k[2] = {2 * s, 2 * s + 1}, count = both;
        if (left >= 0) {
            list[0] = list[1] = longer;
            k[0] = turns<TWOS>() + 2 * left;
            k[1] = k[0] + 1;
        } else if (turn >= 0 && TWOS) {
            list[0] = list[1] = 1 + turn % 2;
            k[0] = turn / 2 * 2;
            k[1] = k[0] + 1;
        } else if (turn >= 0) {
            list[0] = 1;
            list[1] = 2;
            k[0] = k[1] = turn;
        }
        if (turn >= 0) count = list[1] == 1 ? alone_a : alone_b;
        const bool second = k[1] < count;
        const int32_t x = entry(list[0], k[0]), y = entry(list[1], second ? k[1] : k[0]);
        block[0] = x;
        block[1] = second ? y : -1;
        const int32_t first_owner = list[0] == 0 ? 3 : list[0], second_owner = list[1] == 0 ? 3 : list[1];
        *owners = first_owner | (second ? second_owner << 2 : 0);
    }
};

/* Calls push(row0, row1, tag) for each stage of the job: the first rows of its two runs of up to 64 rows, whose counts
   are in the tag. All lanes of a warp together. left: blocks that either unit keeps. */
template <bool TWOS, typename PUSH>
__device__ __forceinline__ void ring_walk(const ring_rows &rows, const int32_t *offsets, int32_t left, int32_t phase,
                                          PUSH push) {
    const int32_t lane = threadIdx.x % 32;
#pragma unroll 1
    for (int first = 0; first < rows.words; first += 32) {
        const ring_strip strip(rows, first, phase);
        const int32_t stages = strip.stages<TWOS>();
        left -= strip.both + strip.alone_a + strip.alone_b;
#pragma unroll 1
        for (int32_t s = 0; s < stages; s += 32) {
            int32_t block[2], its_owners, its_row[2] = {0, 0}, its_end[2] = {0, 0};
            strip.stage<TWOS>(s + lane < stages ? s + lane : stages - 1, block, &its_owners);
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (block[i] >= 0) {
                    its_row[i] = __ldg(offsets + first * 64 + block[i]);
                    its_end[i] = __ldg(offsets + first * 64 + block[i] + 1);
                }
            const int32_t here = stages - s < 32 ? stages - s : 32;
#pragma unroll 1
            for (int32_t i = 0; i < here; i++) {
                const int32_t owners = __shfl_sync(0xffffffff, its_owners, i);
                const int32_t end0 = __shfl_sync(0xffffffff, its_end[0], i);
                const int32_t end1 = __shfl_sync(0xffffffff, its_end[1], i);
                int32_t row0 = __shfl_sync(0xffffffff, its_row[0], i), row1 = __shfl_sync(0xffffffff, its_row[1], i);
                const bool ends = left == 0 && s + i == stages - 1;
#pragma unroll 1
                do { /* once, but where a block is longer than 64 rows */
                    const int32_t count0 = min(max(end0 - row0, 0), 64), count1 = min(max(end1 - row1, 0), 64);
                    const bool last = ends && row0 + 64 >= end0 && row1 + 64 >= end1;
                    const int32_t mask = (count0 ? 3 : 0) | (count1 ? 12 : 0);
                    push(row0, row1,
                         (owners & mask) | (last ? TAG_LAST : 0) | count0 << TAG_ROWS | count1 << (TAG_ROWS + 8));
                    row0 += 64;
                    row1 += 64;
                } while (row0 < end0 || row1 < end1);
            }
        }
    }
}

/* Where a job's bits are. */
__device__ __forceinline__ ring_rows ring_rows_of(const ring_job &job, const nabla_cuda_plan &plan,
                                                  const nabla_cuda_side &own, const nabla_cuda_side &partner,
                                                  const uint64_t *bits) {
    const int32_t set = plan.sets == 1 ? 0 : job.head;
    ring_rows rows;
    rows.words = partner.words;
#pragma unroll
    for (int i = 0; i < UNITS; i++) {
        const int32_t block = job.unit[i].block;
        rows.row[i] = block < 0 ? NULL : bits + ((int64_t)set * own.blocks + block) * partner.words;
    }
    return rows;
}

__device__ __forceinline__ ring_job ring_make_job(int32_t number, const nabla_cuda_plan &plan,
                                                  const nabla_cuda_side &own, const nabla_cuda_side &partner,
                                                  const uint64_t *bits, head_finder *shared) {
    const int32_t rank = number / own.pair_count;
    ring_job job;
    if (shared)
        job.head = shared->find(plan, false, rank);
    else
        job.head = rank < plan.batch * plan.heads ? rank : -1;
    if (job.head < 0) return job;
    job.batch = job.head / plan.heads;
    job.head_in_batch = job.head % plan.heads;
    const int32_t flags = pairing_of(plan, own, job.head), pairing = flags & ~NABLA_CUDA_LONE;
    const nabla_cuda_unit *pair = own.pairs + ((int64_t)pairing * own.pair_count + number % own.pair_count) * UNITS;
#pragma unroll
    for (int i = 0; i < UNITS; i++)
        job.unit[i] = pair[i];
    const ring_rows rows = ring_rows_of(job, plan, own, partner, bits);
    job.phase = walk_phase(flags, number, 1);
    job.blocks = 0;
#pragma unroll 1
    for (int strip = threadIdx.x % 32; strip < rows.words; strip += 32)
        job.blocks += __popcll(ring_word(rows, 0, strip) | ring_word(rows, 1, strip));
    job.blocks = __reduce_add_sync(0xffffffff, job.blocks);
    return job;
}

/* Before a stage is written again: all that read it must be done. Then its tag may be written as well. */
struct ring_gate {
    uint64_t *empty; /* of the stage */
    uint32_t parity;
    int32_t *tag; /* NULL, or where the stage's tag goes */
    int32_t value;

    __device__ __forceinline__ void pass() const {
        barrier_wait(empty, parity);
        if (tag && threadIdx.x % 32 == 0) *tag = value;
    }
};

/* What a warp that feeds the ring does: the first draws the jobs and copies what belongs to a job itself, and first
   tiles with their tags; the second copies second tiles. */
enum ring_role { FIRST, SECOND };

/* One such warp. bits: [sets][own.blocks][partner.words]. begin(job) copies what is the job's, on job_full; copy(slot,
   row0, row1, tag, job, gate), which all lanes call, passes the gate and copies the warp's part of a stage. */
template <int STAGES, ring_role ROLE, bool TWOS, bool SHARED, typename BEGIN, typename COPY>
__device__ __forceinline__ void ring_feed(ring<STAGES> *r, const nabla_cuda_plan &plan, const nabla_cuda_side &own,
                                          const nabla_cuda_side &partner, const uint64_t *bits, int32_t *counter,
                                          BEGIN begin, COPY copy) {
    const int lane = threadIdx.x % 32;
    ring_place<STAGES> place;
    head_finder shared;
    int32_t drawn = ROLE == FIRST && lane == 0 ? atomicAdd(counter, 1) : 0;
    uint64_t *const empty = ROLE == SECOND ? r->second_empty : r->first_empty;
    for (uint32_t parity = 0;; parity ^= 1) {
        ring_job job;
        if (ROLE == FIRST) {
            job = ring_make_job(__shfl_sync(0xffffffff, drawn, 0), plan, own, partner, bits, SHARED ? &shared : NULL);
            barrier_wait(&r->job_empty, parity ^ 1);
            if (lane == 0) {
                r->job = job;
                if (job.head < 0)
                    barrier_arrive(&r->job_full);
                else
                    begin(job);
            }
            __syncwarp();
            if (lane == 0 && job.head >= 0) drawn = atomicAdd(counter, 1); /* comes while this job is walked */
        } else {
            barrier_wait(&r->job_full, parity);
            job = r->job;
            __syncwarp();
            if (lane < READERS) barrier_arrive(&r->job_empty);
        }
        if (job.head < 0) return;
        ring_walk<TWOS>(ring_rows_of(job, plan, own, partner, bits), partner.offsets, job.blocks, job.phase,
                        [&](int32_t row0, int32_t row1, int32_t tag) {
                            const ring_gate gate = {&empty[place.slot], place.parity ^ 1,
                                                    ROLE == FIRST ? &r->tag[place.slot] : NULL, tag};
                            copy(place.slot, row0, row1, tag, job, gate);
                            place.next();
                        });
    }
}

/* A stage's tiles, as the tag says. to: two tiles. */
template <int D>
__device__ __forceinline__ void ring_copy(char *to, const CUtensorMap *map, uint64_t *full, int32_t row0, int32_t row1,
                                          int32_t tag, const ring_job &job) {
    constexpr int TILE = D / 64 * PANEL_BYTES;
    if (tag_rows(tag, 0)) copy_tile<D>(to, map, full, row0, job.head_in_batch, job.batch, READ_OFTEN);
    if (tag_rows(tag, 1)) copy_tile<D>(to + TILE, map, full, row1, job.head_in_batch, job.batch, READ_OFTEN);
}

__device__ __forceinline__ int ring_tiles(int32_t tag) {
    return (tag_rows(tag, 0) > 0) + (tag_rows(tag, 1) > 0);
}

/* ---- reading */

/* A warpgroup's reading of the ring: first tiles of a stage, and their tag, before its second tiles. */
template <int STAGES> struct ring_reader {
    ring<STAGES> *r;
    int unit;
    uint32_t job_parity = 0;
    bool more = false; /* the job has a stage under the first cursor */
    int32_t tag = 0;   /* and this is its tag */
    ring_place<STAGES> first, second;

    __device__ __forceinline__ ring_reader(ring<STAGES> *ring, int which) : r(ring), unit(which) {
    }

    /* Once a warp: each has read for itself. */
    __device__ __forceinline__ void arrive(uint64_t *barrier) const {
        __syncwarp();
        if (threadIdx.x % 32 < READERS) barrier_arrive(barrier);
    }

    /* Waits for a job and its first stage; false where there is none. */
    __device__ __forceinline__ bool begin(row_task *task) {
        const ring_job *job = &r->job;
        barrier_wait(&r->job_full, job_parity);
        job_parity ^= 1;
        *task = (row_task){job->unit[unit].first, job->unit[unit].count, job->head, job->batch, job->head_in_batch};
        more = uniform(job->blocks) > 0;
        return task->head >= 0;
    }

    /* What the job itself copied is no longer needed. */
    __device__ __forceinline__ void release_job() const {
        arrive(&r->job_empty);
    }

    /* Waits for the first tiles under the cursor, where there are any. */
    __device__ __forceinline__ void look() {
        if (!more) return;
        barrier_wait(&r->first_full[first.slot], first.parity);
        tag = uniform(r->tag[first.slot]);
    }

    /* The halves of the stage under the cursor that are this unit's; look() has been there. */
    __device__ __forceinline__ int32_t mine() const {
        return more ? tag_count(tag, unit) : 0;
    }

    /* Goes on from a stage; its slot, which is still held. */
    __device__ __forceinline__ int take_first() {
        const int slot = first.slot;
        more = !(tag & TAG_LAST);
        first.next();
        return slot;
    }

    /* Waits for the second tiles of the stage after the last taken; its slot. */
    __device__ __forceinline__ int take_second() {
        const int slot = second.slot;
        barrier_wait(&r->second_full[slot], second.parity);
        second.next();
        return slot;
    }

    __device__ __forceinline__ void release_first(int slot) const {
        arrive(&r->first_empty[slot]);
    }

    __device__ __forceinline__ void release_second(int slot) const {
        arrive(&r->second_empty[slot]);
    }

    /* Passes by the first tiles of a stage that is not this unit's, and looks at the next; the second tiles are to be
       passed by when it is their turn. */
    __device__ __forceinline__ void skip_first() {
        release_first(take_first());
        look();
    }

    __device__ __forceinline__ void skip_second() {
        release_second(take_second());
    }
};

#endif

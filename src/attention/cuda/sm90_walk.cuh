/* SPDX-License-Identifier: Apache-2.0 */
/* How thread blocks find their way: to the next head, through the bits of a row, and around a ring of tiles. */
#ifndef NABLA_SM90_WALK_CUH
#define NABLA_SM90_WALK_CUH

#include "sm90.cuh"

/* A walk over scattered lists begins at a phase of the key blocks and goes round. Thread blocks that draw jobs one
   after the other are spread evenly over theirs; with phases that rise from job to job as evenly, all are near the same
   keys at any time, and those stay in the level-2 cache. The number is that of a large card's multiprocessors; it is no
   card's own, so that sums have one order everywhere. */
enum { WALK_PHASES = 132 };

/* Where job `number` begins; `each` jobs are at work on a multiprocessor. */
__device__ __forceinline__ int32_t walk_phase(int32_t flags, int32_t number, int32_t each) {
    return flags & NABLA_CUDA_LONE ? number / each % WALK_PHASES : 0;
}

__device__ __forceinline__ int32_t pairing_of(const nabla_cuda_plan &plan, const nabla_cuda_side &side, int32_t head) {
    return __ldg(side.pairing + (plan.sets == 1 ? 0 : head));
}

/* Where in a ring of tiles somebody is. */
template <int TILES> struct ring_place {
    int slot = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void next() {
        if (++slot == TILES) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/* Bit k (from 0) of those that are set in x; k must be below their number. */
__device__ __forceinline__ int nth_bit(uint64_t x, int k) {
    int at = 0;
#pragma unroll
    for (int width = 32; width; width /= 2) {
        const int below = __popcll(x & ((UINT64_C(1) << width) - 1));
        const bool above = k >= below;
        k -= above ? below : 0;
        at += above ? width : 0;
        x >>= above ? width : 0;
    }
    return at;
}

/* Finds the heads of one kind, lone or not, in ascending order. */
struct head_finder {
    int32_t base = 0, before = 0; /* so many of the kind lie below head `base` */

    /* The head with `rank` of its kind before it; -1 where there is none. Ranks must not fall from call to call. All
       lanes of a warp together. */
    __device__ __forceinline__ int32_t find(const nabla_cuda_plan &plan, bool lone, int32_t rank) {
        const int32_t heads = plan.batch * plan.heads;
        for (; base < heads; base += 32) {
            const int32_t head = base + threadIdx.x % 32;
            const bool its_lone = head < heads && pairing_of(plan, plan.q, head) & NABLA_CUDA_LONE;
            const uint32_t kind = __ballot_sync(0xffffffff, head < heads && its_lone == lone);
            if (rank - before < __popc(kind)) return base + nth_bit(kind, rank - before);
            before += __popc(kind);
        }
        return -1;
    }
};

/* A walk over one row's kept blocks, in runs of up to 64 tokens. Every warp walks for itself, all lanes together. */
struct row_walk {
    const uint64_t *bits;
    int32_t words, phase;
    int32_t strip;                        /* its first word: a strip is 32 words, one a lane */
    uint64_t word;                        /* this lane's */
    int32_t through, count, start, taken; /* kept up to this lane, in all, before the phase, and walked over */
    int32_t its_token, its_end;           /* of this lane's block among the next 32 */
    int32_t token, end;                   /* what is left of a block */

    __device__ __forceinline__ void begin(const uint64_t *row, int32_t row_words, int32_t at_phase) {
        bits = row;
        words = row_words;
        phase = at_phase;
        strip = -32;
        count = taken = token = end = 0;
    }

    __device__ __forceinline__ void load_strip() {
        const int lane = threadIdx.x % 32;
        word = strip + lane < words ? __ldg((const unsigned long long *)bits + strip + lane) : 0;
        through = __popcll(word);
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            const int32_t below = __shfl_up_sync(0xffffffff, through, step);
            through += lane >= step ? below : 0;
        }
        count = __shfl_sync(0xffffffff, through, 31);
        const int32_t first = phase * min(words - strip, 32) / WALK_PHASES;
        start = __shfl_sync(0xffffffff, through, max(first - 1, 0));
        start = first == 0 ? 0 : start;
        taken = 0;
    }

    /* Each lane one of the strip's next 32 blocks. */
    __device__ __forceinline__ void load_blocks(const int32_t *offsets) {
        int32_t k = taken + threadIdx.x % 32 + start;
        k -= k >= count ? count : 0;
        int lane = 0; /* the first with more than k bits through it */
#pragma unroll
        for (int step = 16; step; step /= 2)
            lane += __shfl_sync(0xffffffff, through, lane + step - 1) <= k ? step : 0;
        const uint64_t x = __shfl_sync(0xffffffff, word, lane);
        const int32_t skipped = __shfl_sync(0xffffffff, through, max(lane - 1, 0));
        if (taken + (int32_t)(threadIdx.x % 32) >= count) return;
        const int32_t block = (strip + lane) * 64 + nth_bit(x, k - (lane > 0 ? skipped : 0));
        its_token = __ldg(offsets + block);
        its_end = __ldg(offsets + block + 1);
    }

    /* The next run: its first token, and of how many, 0 where the row is over. */
    __device__ __forceinline__ int32_t next(const int32_t *offsets, int32_t *first) {
        if (token >= end) {
            while (taken == count) {
                if (strip + 32 >= words) return 0;
                strip += 32;
                load_strip();
            }
            if (taken % 32 == 0) load_blocks(offsets);
            token = __shfl_sync(0xffffffff, its_token, taken % 32);
            end = __shfl_sync(0xffffffff, its_end, taken % 32);
            taken++;
        }
        *first = token;
        const int32_t left = min(end - token, 64);
        token += 64;
        return left;
    }
};

#endif

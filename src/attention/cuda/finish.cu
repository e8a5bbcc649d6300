/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After the rows are made: columns [sets][nk][q_words], their transpose, and for each set the pairing of units that
 * has more blocks in common, which is how many loads of key (for columns: query) blocks a pair saves.
 */
#include "device.cuh"

enum { TILE = 64, TRANSPOSE_WARPS = 8, TRANSPOSE_THREADS = TRANSPOSE_WARPS * NABLA_WARP, PAIRING_THREADS = 1024 };

/* A head whose pairs have fewer than one in so many blocks in common is one for lone units. */
enum { LONE_SHARE = 9 };

/* A warp turns one tile of 64 x 64 bits: a lane holds rows `lane` and `lane + 32`, and a vote over bit j of all rows is
   column j. The warps of a thread block take neighbouring words of the same rows. */
static __global__ void __launch_bounds__(TRANSPOSE_THREADS) transpose(nabla_cuda_plan plan, int32_t strips) {
    const int32_t lane = threadIdx.x % NABLA_WARP;
    const int32_t k_word = (int32_t)(blockIdx.x % strips) * TRANSPOSE_WARPS + threadIdx.x / NABLA_WARP;
    const int32_t q_word = (int32_t)(blockIdx.x / strips % plan.q.words);
    const int64_t set = blockIdx.x / strips / plan.q.words;
    if (k_word >= plan.k.words) return;

    const int32_t q = q_word * TILE + lane, k = k_word * TILE + lane;
    const uint64_t *rows = plan.rows + (set * plan.q.blocks + q) * plan.k.words + k_word;
    const uint64_t upper = q < plan.q.blocks ? rows[0] : 0;
    const uint64_t lower = q + 32 < plan.q.blocks ? rows[(int64_t)32 * plan.k.words] : 0;
    uint64_t left = 0, right = 0; /* columns `lane` and `lane + 32` */
#pragma unroll
    for (int j = 0; j < 32; j++) {
        const uint64_t above = __ballot_sync(NABLA_ALL_LANES, upper >> j & 1);
        const uint64_t below = __ballot_sync(NABLA_ALL_LANES, lower >> j & 1);
        if (lane == j) left = above | below << 32;
    }
#pragma unroll
    for (int j = 0; j < 32; j++) {
        const uint64_t above = __ballot_sync(NABLA_ALL_LANES, upper >> (j + 32) & 1);
        const uint64_t below = __ballot_sync(NABLA_ALL_LANES, lower >> (j + 32) & 1);
        if (lane == j) right = above | below << 32;
    }
    uint64_t *columns = plan.columns + (set * plan.k.blocks + k) * plan.q.words + q_word;
    if (k < plan.k.blocks) columns[0] = left;
    if (k + 32 < plan.k.blocks) columns[(int64_t)32 * plan.q.words] = right;
}

/* One side as its units see it: rows of bits over the blocks of the other. */
typedef struct paired_side {
    const uint64_t *bits; /* [sets][blocks][words] */
    int32_t blocks, words, pair_count;
    const nabla_cuda_unit *pairs;
    int32_t *pairing;
} paired_side;

/* Blocks that the pairs of each pairing have in common, and that they keep. */
typedef struct pair_counts {
    uint64_t common[NABLA_CUDA_PAIRINGS], kept;
} pair_counts;

/* A thread's part; all pairings at once, since it is waiting for memory that takes the time. */
static __device__ pair_counts count_pairs(const paired_side &side, const uint64_t *bits) {
    pair_counts n = {};
    const int64_t items = (int64_t)side.pair_count * side.words;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < items; i += PAIRING_THREADS) {
        const int64_t pair = i / side.words, word = i % side.words;
#pragma unroll
        for (int p = 0; p < NABLA_CUDA_PAIRINGS; p++) {
            const nabla_cuda_unit *units = side.pairs + 2 * (p * (int64_t)side.pair_count + pair);
            const int32_t a = units[0].block, b = units[1].block;
            const uint64_t x = a >= 0 ? bits[(int64_t)a * side.words + word] : 0;
            const uint64_t y = b >= 0 ? bits[(int64_t)b * side.words + word] : 0;
            n.common[p] += __popcll(x & y);
            if (p == 0) n.kept += __popcll(x) + __popcll(y); /* every pairing has all units */
        }
    }
    return n;
}

/* A thread block for each set and side. */
static __global__ void __launch_bounds__(PAIRING_THREADS) choose_pairings(paired_side q, paired_side k, int32_t sets) {
    __shared__ uint64_t room[PAIRING_THREADS / NABLA_WARP];
    const int32_t set = (int32_t)(blockIdx.x % sets);
    const paired_side side = blockIdx.x < (unsigned)sets ? q : k;
    const pair_counts n = count_pairs(side, side.bits + (int64_t)set * side.blocks * side.words);
    const uint64_t kept = block_sum(n.kept, room);
    uint64_t most = 0;
    int32_t best = 0;
    for (int32_t p = 0; p < NABLA_CUDA_PAIRINGS; p++) {
        const uint64_t common = block_sum(n.common[p], room);
        if (common > most) { /* of equals the first */
            most = common;
            best = p;
        }
    }
    if (threadIdx.x == 0) side.pairing[set] = best | (most * LONE_SHARE < kept ? NABLA_CUDA_LONE : 0);
}

static paired_side side_of(const uint64_t *bits, const nabla_cuda_side *side, const nabla_cuda_side *other) {
    paired_side s = {};
    s.bits = bits;
    s.blocks = side->blocks;
    s.words = other->words;
    s.pair_count = side->pair_count;
    s.pairs = side->pairs;
    s.pairing = side->pairing;
    return s;
}

int nabla_cuda_finish(const nabla_cuda_plan *plan, nabla_cuda_stream stream) {
    if (plan->columns) {
        const int64_t strips = nabla_groups(plan->k.words, TRANSPOSE_WARPS);
        const int64_t groups = (int64_t)plan->sets * plan->q.words * strips;
        if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
        NABLA_LAUNCH(transpose, (unsigned)groups, TRANSPOSE_THREADS, 0, stream)(*plan, (int32_t)strips);
        const int error = nabla_launched();
        if (error) return error;
    }
    const paired_side q = side_of(plan->rows, &plan->q, &plan->k), k = side_of(plan->columns, &plan->k, &plan->q);
    const unsigned groups = (unsigned)plan->sets * (plan->columns ? 2 : 1);
    NABLA_LAUNCH(choose_pairings, groups, PAIRING_THREADS, 0, stream)(q, k, plan->sets);
    return nabla_launched();
}

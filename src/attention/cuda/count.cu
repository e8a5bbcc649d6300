/* SPDX-License-Identifier: Apache-2.0 */
/* What each set keeps, in blocks and in token pairs; ragged blocks count by their size. */
#include "device.cuh"

enum { THREADS = 1024 };

/* The tokens of the blocks whose bits are set, run by run: a run's tokens are one difference of offsets. */
static __device__ int64_t count_tokens(uint64_t bits, const int32_t *offsets) {
    int64_t tokens = 0;
    while (bits) {
        const int first = __ffsll((long long)bits) - 1;
        const uint64_t rest = ~(bits >> first);
        const int length = rest ? __ffsll((long long)rest) - 1 : 64;
        tokens += offsets[first + length] - offsets[first];
        bits = first + length < 64 ? bits & ~UINT64_C(0) << (first + length) : 0;
    }
    return tokens;
}

/* A thread block a set, or a head of those that share one. */
static __global__ void __launch_bounds__(THREADS) count_set(nabla_cuda_plan plan, int64_t *blocks, int64_t *pairs) {
    __shared__ int64_t room[THREADS / NABLA_WARP];
    const int64_t words = (int64_t)plan.q.blocks * plan.k.words;
    const uint64_t *rows = plan.rows + (plan.sets == 1 ? 0 : blockIdx.x) * words;
    int64_t kept = 0, tokens = 0;
    for (int64_t i = threadIdx.x; i < words; i += THREADS) {
        const int64_t q = i / plan.k.words, word = i % plan.k.words;
        const uint64_t bits = rows[i];
        kept += __popcll(bits);
        tokens += count_tokens(bits, plan.k.offsets + word * 64) * (plan.q.offsets[q + 1] - plan.q.offsets[q]);
    }
    kept = block_sum(kept, room);
    tokens = block_sum(tokens, room);
    if (threadIdx.x == 0) {
        if (blocks) blocks[blockIdx.x] = kept;
        pairs[blockIdx.x] = tokens;
    }
}

int nabla_cuda_count(const nabla_cuda_plan *plan, int64_t count, int64_t *blocks, int64_t *pairs,
                     nabla_cuda_stream stream) {
    NABLA_LAUNCH(count_set, (unsigned)count, THREADS, 0, stream)(*plan, blocks, pairs);
    return nabla_launched();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills a plan's rows from a policy: first what a block's place alone says (everything, or the STA window around its
 * tile; section 3.3 of arXiv 2507.13546), for all sets; then score.cu adds what the scores say. Each part applies the
 * documents to what it adds.
 */
#include "build.cuh"

enum { THREADS = 128, MOST_SPLITS = 64 };

typedef struct span {
    int32_t first, last; /* [first, last) */
} span;

/* See policy/sta.c. */
static __device__ span around(int32_t centre, int32_t window, int32_t tiles) {
    const int32_t reach = window / 2;
    return {centre > reach ? centre - reach : 0, tiles - centre > reach ? centre + reach + 1 : tiles};
}

/* Word `word` of the window around query block q: key blocks in raster order of tiles, so a line of tiles is a run. */
static __device__ uint64_t window_bits(const nabla_cuda_build &b, int32_t q, int32_t word) {
    const int32_t height = b.tiles[1], width = b.tiles[2];
    const span frames = around(q / (height * width), b.sta[0], b.tiles[0]);
    const span lines = around(q / width % height, b.sta[1], height);
    const span columns = around(q % width, b.sta[2], width);
    uint64_t bits = 0;
    const int32_t first = word * 64, last = first + 64 < b.plan.k.blocks ? first + 64 : b.plan.k.blocks;
    for (int32_t line = first / width; line * width < last; line++) {
        const int32_t f = line / height, h = line % height;
        if (f >= frames.first && f < frames.last && h >= lines.first && h < lines.last)
            bits |= bits_between(word, line * width + columns.first, line * width + columns.last);
    }
    return bits;
}

/* A thread makes one word of one query block and writes it to its share of the sets. */
static __global__ void __launch_bounds__(THREADS) place_rows(nabla_cuda_build b) {
    const int64_t words = (int64_t)b.plan.q.blocks * b.plan.k.words;
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= words) return;
    const int32_t q = (int32_t)(at / b.plan.k.words), word = (int32_t)(at % b.plan.k.words);
    uint64_t bits = 0;
    if (b.dense) bits = bits_between(word, 0, b.plan.k.blocks);
    if (b.has_sta) bits |= window_bits(b, q, word);
    if (b.documents) {
        const int32_t document = b.document_of[q];
        bits &= bits_between(word, b.document_first[document], b.document_first[document + 1]);
    }
    for (int64_t set = blockIdx.y; set < b.plan.sets; set += gridDim.y)
        b.plan.rows[set * words + at] = bits;
}

static bool scored(const nabla_cuda_build *b) {
    return b->has_nabla && !b->dense;
}

size_t nabla_cuda_build_workspace(const nabla_cuda_build *b) {
    return scored(b) ? nabla_cuda_score_workspace(b) : 0;
}

int nabla_cuda_build_rows(const nabla_cuda_build *b) {
    if (!scored(b) || b->has_sta) {
        const int64_t groups = nabla_groups((int64_t)b->plan.q.blocks * b->plan.k.words, THREADS);
        const int32_t splits = b->plan.sets < MOST_SPLITS ? b->plan.sets : MOST_SPLITS;
        if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
        const dim3 grid((unsigned)groups, (unsigned)splits);
        NABLA_LAUNCH(place_rows, grid, THREADS, 0, b->stream)(*b);
        const int error = nabla_launched();
        if (error) return error;
    }
    return scored(b) ? nabla_cuda_score(b) : (int)cudaSuccess;
}

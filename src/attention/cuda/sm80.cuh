/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sm80 kernels share: which rows of the other side a unit visits, tiles of rows in shared memory, and warp
 * products of tiles (mma.sync, after FlashAttention-2, arXiv 2307.08691).
 *
 * A tile is `rows` rows of CHUNKS 16-byte chunks; chunk c of row r lies at place c ^ (r % 8) of its row, so that eight
 * rows at one c, and eight c in one row, are each in different banks. Rows past a chunk's end and columns past the head
 * dim hold zeros and are never read from memory: what lies there may belong to another block, and be NaN.
 *
 * Fragments of m16n8k16, with g = lane / 4, t = lane % 4: A is {(g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8)} as
 * (row, k), two k each; B is {(2t, g), (2t + 8, g)} as (k, column); C is {(g, 2t), (g, 2t + 1), (g + 8, 2t),
 * (g + 8, 2t + 1)} as (row, column).
 */
#ifndef NABLA_SM80_CUH
#define NABLA_SM80_CUH

#include "cuda.h"
#include "instructions.cuh"

#include <cuda_runtime.h>

#define SM80_FN static __device__ __forceinline__

enum { SM80_THREADS = 128, SM80_ROWS = NABLA_CUDA_ROWS };

constexpr size_t SM80_MOST_SHARED = 99 * 1024; /* what a thread block may have on the least of these GPUs */
constexpr float SM80_LOG2_E = 1.4426950408889634f, SM80_LN_2 = 0.6931471805599453f;

/* ---- which rows to visit */

/* The blocks of one row of bits, as chunks of consecutive rows. The same in all threads. */
struct sm80_walk {
    const uint64_t *bits;
    const int32_t *offsets;
    int32_t words, word;
    uint64_t left;       /* of bits[word] */
    int32_t first, last; /* rows at hand */
};

struct sm80_chunk {
    int32_t first, count;
};

/* Over the key blocks that query block `block` keeps, or (columns) the query blocks that keep this key block. */
SM80_FN sm80_walk sm80_walk_begin(const nabla_cuda_plan &plan, bool columns, int32_t head, int32_t block) {
    const nabla_cuda_side &own = columns ? plan.k : plan.q, &other = columns ? plan.q : plan.k;
    const int64_t set = plan.sets == 1 ? 0 : head;
    sm80_walk w;
    w.bits = (columns ? plan.columns : plan.rows) + (set * own.blocks + block) * other.words;
    w.offsets = other.offsets;
    w.words = other.words;
    w.word = -1;
    w.left = 0;
    w.first = w.last = 0;
    return w;
}

/* The next chunk of at most `most` rows; false after the last. Neighbouring blocks are taken as one, which fills chunks
   where blocks are short. */
SM80_FN bool sm80_walk_next(sm80_walk &w, int32_t most, sm80_chunk &c) {
    if (w.first >= w.last) {
        while (w.left == 0) {
            if (++w.word >= w.words) return false;
            w.left = __ldg((const unsigned long long *)w.bits + w.word);
        }
        const int32_t bit = __ffsll((long long)w.left) - 1;
        const uint64_t gap = ~(w.left >> bit); /* its lowest bit is where the run of blocks ends */
        const int32_t end = gap ? bit + __ffsll((long long)gap) - 1 : 64;
        w.left = end < 64 ? w.left & (~UINT64_C(0) << end) : 0;
        w.first = __ldg(w.offsets + w.word * 64 + bit);
        w.last = __ldg(w.offsets + w.word * 64 + end);
    }
    c.first = w.first;
    c.count = min(w.last - w.first, most);
    w.first += c.count;
    return true;
}

/* ---- memory to tiles */

/* bytes 0: fills with zeros and reads nothing. */
SM80_FN void sm80_copy_16(uint32_t dst, const void *src, uint32_t bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

SM80_FN void sm80_copy_4(uint32_t dst, const void *src, uint32_t bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

/* This thread's copies have landed; what other threads copied is there after the barrier that follows. */
SM80_FN void sm80_copies_wait() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* Two operands as floats; see pack(). */
template <typename T> SM80_FN float2 sm80_unpack(uint32_t bits) {
    if constexpr (std::is_same_v<T, __half>) {
        __half2 h;
        memcpy(&h, &bits, sizeof bits);
        return __half22float2(h);
    } else {
        return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
    }
}

/* Rows of one (batch, head) of a tensor. */
struct sm80_rows {
    char *base;
    int64_t stride; /* bytes */
    bool fp32;
    uint32_t misaligned; /* the lowest four bits of all rows' addresses */
};

SM80_FN sm80_rows sm80_rows_of(const nabla_cuda_plan &plan, const nabla_cuda_tensor &t, int32_t head) {
    const int64_t b = head / plan.heads, h = head % plan.heads, size = t.dtype == NABLA_FP32 ? 4 : 2;
    sm80_rows r;
    r.base = (char *)t.data + (b * t.batch + h * t.head) * size;
    r.stride = t.row * size;
    r.fp32 = t.dtype == NABLA_FP32;
    r.misaligned = (uint32_t)(((uint64_t)r.base | (uint64_t)r.stride) & 15);
    return r;
}

/* The 16 bytes of operands at column `column` of a row, rounded from fp32 where that is what the row holds. */
template <typename T> SM80_FN uint4 sm80_gather(const sm80_rows &x, const char *row, int32_t column) {
    uint32_t word[4];
    if constexpr (std::is_same_v<T, float>) {
        if (!x.misaligned) return __ldg((const uint4 *)row + column / 4);
#pragma unroll
        for (int i = 0; i < 4; i++)
            word[i] = __ldg((const uint32_t *)row + column + i);
    } else if (x.fp32 && !x.misaligned) {
        const float4 a = __ldg((const float4 *)row + column / 4), b = __ldg((const float4 *)row + column / 4 + 1);
        return make_uint4(pack<T>(a.x, a.y), pack<T>(a.z, a.w), pack<T>(b.x, b.y), pack<T>(b.z, b.w));
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int32_t d = column + 2 * i;
            word[i] = x.fp32 ? pack<T>(__ldg((const float *)row + d), __ldg((const float *)row + d + 1))
                             : __ldg((const uint16_t *)row + d) | (uint32_t)__ldg((const uint16_t *)row + d + 1) << 16;
        }
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

template <int CHUNKS> SM80_FN uint32_t sm80_place(int32_t row, int32_t chunk) {
    return (uint32_t)(row * CHUNKS + (chunk ^ (row & 7)));
}

/* Rows [first, first + count) of x to a tile of ROWS rows; the rest of it is zeros. Asynchronous where rows are whole
   16-byte words of operands. Eight threads share a row, so that a thread's rows differ by 16 and its places in them by
   whole groups of eight: all its addresses are one address and constants. */
template <typename T, int ROWS, int CHUNKS>
SM80_FN void sm80_load(unsigned char *tile, const sm80_rows &x, sm80_chunk c, int32_t head_dim) {
    static_assert(CHUNKS % 8 == 0 && ROWS % 16 == 0 && SM80_THREADS == 128, "eight threads a row, 16 rows at once");
    constexpr int WIDTH = 16 / sizeof(T);
    const int32_t row = (int32_t)threadIdx.x / 8, chunk = (int32_t)threadIdx.x % 8, chunks = head_dim / WIDTH;
    const uint32_t place = 16 * sm80_place<CHUNKS>(row, chunk);
    const char *src = x.base + ((int64_t)c.first + row) * x.stride;
    if (!x.misaligned && x.fp32 == (sizeof(T) == 4)) {
        const uint32_t dst = shared_address(tile) + place;
        src += chunk * 16;
#pragma unroll
        for (int i = 0; i < ROWS; i += 16, src += 16 * x.stride)
#pragma unroll
            for (int j = 0; j < CHUNKS; j += 8)
                sm80_copy_16(dst + 16 * (i * CHUNKS + j), src + 16 * j,
                             row + i < c.count && chunk + j < chunks ? 16 : 0);
        return;
    }
#pragma unroll 1
    for (int i = 0; i < ROWS; i += 16, src += 16 * x.stride)
#pragma unroll
        for (int j = 0; j < CHUNKS; j += 8) {
            uint4 word = make_uint4(0, 0, 0, 0);
            if (row + i < c.count && chunk + j < chunks) word = sm80_gather<T>(x, src, (chunk + j) * WIDTH);
            *(uint4 *)(tile + place + 16 * (i * CHUNKS + j)) = word;
        }
}

/* ---- results to memory: columns column and column + 1 (even) of a row; T is the type where it is not fp32 */

template <typename T> SM80_FN void sm80_store(const sm80_rows &x, int32_t row, int32_t column, float a, float b) {
    char *at = x.base + row * x.stride;
    if (std::is_same_v<T, float> || x.fp32) {
        if (!(x.misaligned & 7)) {
            ((float2 *)at)[column / 2] = make_float2(a, b);
        } else {
            ((float *)at)[column] = a;
            ((float *)at)[column + 1] = b;
        }
    } else if constexpr (!std::is_same_v<T, float>) {
        const uint32_t word = pack<T>(a, b);
        if (!(x.misaligned & 3)) {
            ((uint32_t *)at)[column / 2] = word;
        } else {
            ((uint16_t *)at)[column] = (uint16_t)word;
            ((uint16_t *)at)[column + 1] = (uint16_t)(word >> 16);
        }
    }
}

/* By plain loads: forward reads O here before it writes the same place. */
template <typename T> SM80_FN float2 sm80_fetch(const sm80_rows &x, int32_t row, int32_t column) {
    const char *at = x.base + row * x.stride;
    if ((std::is_same_v<T, float> || x.fp32) && !(x.misaligned & 7)) return ((const float2 *)at)[column / 2];
    if (std::is_same_v<T, float> || x.fp32)
        return make_float2(((const float *)at)[column], ((const float *)at)[column + 1]);
    if constexpr (!std::is_same_v<T, float>)
        return sm80_unpack<T>(((const uint16_t *)at)[column] | (uint32_t)((const uint16_t *)at)[column + 1] << 16);
}

/* ---- products of tiles, one warp */

/* The address of chunk c + k (k even) of a row, from that of chunk c (c 0 or 1). */
SM80_FN uint32_t sm80_along(uint32_t address, int k) {
    return (address ^ (16 * (k & 7))) + 16 * (k & ~7);
}

/* s = rows [row, row + 16) of tile a times all 8 COLUMNS rows of tile b, over DIM columns in ascending steps of 16. */
template <typename T, int DIM, int COLUMNS>
SM80_FN void sm80_products(float (&s)[COLUMNS][4], uint32_t a_tile, int32_t row, uint32_t b_tile) {
    constexpr int CHUNKS = DIM / 8;
    const int32_t lane = (int32_t)threadIdx.x % 32;
    const uint32_t a_at = a_tile + 16 * sm80_place<CHUNKS>(row + lane % 16, lane / 16);
    const uint32_t b_at = b_tile + 16 * sm80_place<CHUNKS>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int n = 0; n < COLUMNS; n++)
        s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t a[4], b[4];
        load_matrices(a, sm80_along(a_at, 2 * k));
#pragma unroll
        for (int n = 0; n < COLUMNS / 2; n++) {
            load_matrices(b, sm80_along(b_at, 2 * k) + 16 * 16 * n * CHUNKS);
            multiply_add<T>(s[2 * n], a, b[0], b[1]);
            multiply_add<T>(s[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* acc += p (16 rows by 8 COLUMNS, rounded to T) times the 8 COLUMNS rows of a tile. C's fragments are A's. */
template <typename T, int DIM, int COLUMNS>
SM80_FN void sm80_accumulate(float (&acc)[DIM / 8][4], const float (&p)[COLUMNS][4], uint32_t tile) {
    constexpr int CHUNKS = DIM / 8;
    const int32_t lane = (int32_t)threadIdx.x % 32;
    const uint32_t at = tile + 16 * sm80_place<CHUNKS>(lane % 16, lane / 16);
#pragma unroll
    for (int k = 0; k < COLUMNS / 2; k++) {
        const uint32_t a[4] = {pack<T>(p[2 * k][0], p[2 * k][1]), pack<T>(p[2 * k][2], p[2 * k][3]),
                               pack<T>(p[2 * k + 1][0], p[2 * k + 1][1]), pack<T>(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < DIM / 16; n++) {
            uint32_t b[4];
            load_matrices_transposed(b, sm80_along(at, 2 * n) + 16 * 16 * k * CHUNKS);
            multiply_add<T>(acc[2 * n], a, b[0], b[1]);
            multiply_add<T>(acc[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* ---- launching */

/* Starts one thread block of `kernel` per unit and head, and returns what CUDA says of it. */
template <typename Kernel>
static int sm80_launch(Kernel kernel, const nabla_cuda_attention *a, int32_t units, size_t shared) {
    const int64_t heads = (int64_t)a->plan.batch * a->plan.heads;
    if (units == 0 || heads == 0) return cudaSuccess;
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error != cudaSuccess) return error;
    kernel<<<dim3((unsigned)units, (unsigned)heads), SM80_THREADS, shared, (cudaStream_t)a->stream>>>(*a);
    return cudaGetLastError();
}

/* The level's fp32 side. */
int sm80_forward_fp32(const nabla_cuda_attention *a);
int sm80_backward_fp32(const nabla_cuda_attention *a);

#endif

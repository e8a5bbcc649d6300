/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernels share: pieces of rows that are loaded and stored at once, and teams of threads that hold a row.
 *
 * Every one of these operations is bound by memory. What is read once is loaded so that caches drop it first (__ldcs),
 * which leaves them to what all rows share: gains, gates, angles.
 */
#ifndef NV_CUDA_ROWS_CUH
#define NV_CUDA_ROWS_CUH

#include "device/cuda/ops.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>

#ifndef NABLA_LAUNCH /* tests/emulator has its own */
/* What follows kernel<<<...>>>: (arguments). */
#define NABLA_LAUNCH(kernel, grid, block, shared_bytes, stream) \
    kernel<<<grid, block, shared_bytes, (cudaStream_t)(stream)>>>
/* The shared memory whose size a launch gives, as unsigned char[]. */
#define NABLA_LAUNCH_SHARED(name, alignment) \
    extern __shared__ __align__(alignment)   \
    unsigned char name[]
#endif

#define NV_FN static __device__ __forceinline__

enum { NV_WARP = 32, NV_MOST_THREADS = 1024 };

/* ---- pieces: V neighbouring numbers of a row, as floats. WIDE: they lie on a boundary of their size (16 bytes where
   they are more) and move at once; else one by one. */

NV_FN float nv_to_float(float x) {
    return x;
}

NV_FN float nv_to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

NV_FN void nv_from_float(float x, float *out) {
    *out = x;
}

NV_FN void nv_from_float(float x, __nv_bfloat16 *out) {
    *out = __float2bfloat16_rn(x);
}

template <int V> NV_FN void nv_unpack(const uint32_t *words, float (&v)[V], float) {
#pragma unroll
    for (int i = 0; i < V; i++)
        v[i] = __uint_as_float(words[i]);
}

template <int V> NV_FN void nv_unpack(const uint32_t *words, float (&v)[V], __nv_bfloat16) {
#pragma unroll
    for (int i = 0; i < V / 2; i++) {
        v[2 * i] = __uint_as_float(words[i] << 16);
        v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

template <int V> NV_FN void nv_pack(const float (&v)[V], uint32_t *words, float) {
#pragma unroll
    for (int i = 0; i < V; i++)
        words[i] = __float_as_uint(v[i]);
}

template <int V> NV_FN void nv_pack(const float (&v)[V], uint32_t *words, __nv_bfloat16) {
#pragma unroll
    for (int i = 0; i < V / 2; i++) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
        memcpy(words + i, &pair, sizeof pair);
    }
}

template <bool ONCE, typename T> NV_FN T nv_fetch(const T *p) {
    if constexpr (ONCE)
        return __ldcs(p);
    else
        return __ldg(p);
}

template <int V, bool WIDE, bool ONCE, typename T> NV_FN void nv_load_piece(const T *p, float (&v)[V]) {
    constexpr int WORDS = V * (int)sizeof(T) / 4;
    if constexpr (WIDE && WORDS % 4 == 0) {
        uint32_t words[WORDS];
#pragma unroll
        for (int i = 0; i < WORDS; i += 4) {
            const uint4 q = nv_fetch<ONCE>((const uint4 *)p + i / 4);
            words[i] = q.x, words[i + 1] = q.y, words[i + 2] = q.z, words[i + 3] = q.w;
        }
        nv_unpack(words, v, T());
    } else if constexpr (WIDE) {
        static_assert(WORDS == 2, "a wide piece is of 8 bytes or of whole 16");
        const uint2 q = nv_fetch<ONCE>((const uint2 *)p);
        const uint32_t words[2] = {q.x, q.y};
        nv_unpack(words, v, T());
    } else {
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] = nv_to_float(p[i]);
    }
}

/* What this kernel reads once: it may be written by it too. */
template <int V, bool WIDE, typename T> NV_FN void nv_load(const T *p, float (&v)[V]) {
    nv_load_piece<V, WIDE, true>(p, v);
}

/* What other threads read as well and nobody writes. */
template <int V, bool WIDE> NV_FN void nv_recall(const float *p, float (&v)[V]) {
    nv_load_piece<V, WIDE, false>(p, v);
}

template <int V, bool WIDE, typename T> NV_FN void nv_store(T *p, const float (&v)[V]) {
    constexpr int WORDS = V * (int)sizeof(T) / 4;
    if constexpr (WIDE && WORDS % 4 == 0) {
        uint32_t words[WORDS];
        nv_pack(v, words, T());
#pragma unroll
        for (int i = 0; i < WORDS; i += 4)
            __stcs((uint4 *)p + i / 4, make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]));
    } else if constexpr (WIDE) {
        uint32_t words[2];
        nv_pack(v, words, T());
        __stcs((uint2 *)p, make_uint2(words[0], words[1]));
    } else {
#pragma unroll
        for (int i = 0; i < V; i++)
            nv_from_float(v[i], p + i);
    }
}

template <typename T> NV_FN T *nv_row(const nv_matrix &m, int64_t row) {
    return (T *)m.data + row * m.stride;
}

/* ---- teams: threads (blockDim.x of them, numbered by threadIdx.x) that hold one row in registers, NV_HELD numbers
   each: piece p of thread t is columns [(p * team + t) * V, + V). A thread block is blockDim.y teams. */

enum { NV_HELD = 16, NV_MOST_COLUMNS = NV_HELD * NV_MOST_THREADS };

/* Combines N numbers of each thread over each team: 8, 16 or a multiple of 32 threads. All threads of the block must
   come; every one gets its team's result, in an order that the team's size alone decides. `none` changes nothing. */
template <int N, typename F> NV_FN void nv_team_combine(float (&x)[N], float none, F combine) {
    __shared__ float room[N][NV_MOST_THREADS / NV_WARP];
    const int team = (int)blockDim.x, thread = (int)(threadIdx.y * blockDim.x + threadIdx.x), lane = thread % NV_WARP;
    const int width = team < NV_WARP ? team : NV_WARP;
    for (int step = width / 2; step; step /= 2)
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = combine(x[i], __shfl_xor_sync(0xffffffffu, x[i], step));
    if (team <= NV_WARP) return;
    __syncthreads(); /* nobody reads the room from the time before */
    if (lane == 0)
#pragma unroll
        for (int i = 0; i < N; i++)
            room[i][thread / NV_WARP] = x[i];
    __syncthreads();
    const int warps = team / NV_WARP, first = (int)threadIdx.y * warps;
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = lane < warps ? room[i][first + lane] : none;
    for (int step = NV_WARP / 2; step; step /= 2)
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = combine(x[i], __shfl_xor_sync(0xffffffffu, x[i], step));
}

struct nv_adding {
    __device__ float operator()(float x, float y) const {
        return x + y;
    }
};

struct nv_greater {
    __device__ float operator()(float x, float y) const {
        return fmaxf(x, y);
    }
};

template <int N> NV_FN void nv_team_sum(float (&x)[N]) {
    nv_team_combine(x, 0.0f, nv_adding());
}

NV_FN float nv_team_most(float x) {
    float most[1] = {x};
    nv_team_combine(most, -INFINITY, nv_greater());
    return most[0];
}

/* Threads of a team for so many columns. */
static inline unsigned nv_team_for(int64_t cols) {
    const int64_t threads = (cols + NV_HELD - 1) / NV_HELD;
    if (threads <= 8) return 8;
    return threads <= 16 ? 16 : (unsigned)((threads + NV_WARP - 1) / NV_WARP * NV_WARP);
}

/* Teams that fill thread blocks of about 256 threads, whole warps each. */
static inline dim3 nv_team_block(int64_t cols) {
    const unsigned team = nv_team_for(cols);
    return dim3(team, team < 256 ? 256 / team : 1);
}

static inline int64_t nv_groups(int64_t items, int64_t group) {
    return (items + group - 1) / group;
}

/* Whether pieces of V numbers may be wide. */
static inline bool nv_on_boundary(const void *data, nabla_dtype dtype, int V) {
    const size_t bytes = (size_t)V * (dtype == NABLA_BF16 ? 2 : 4);
    return (uintptr_t)data % (bytes < 16 ? bytes : 16) == 0;
}

/* NULL and empty ones are fine. */
static inline bool nv_wide(const nv_matrix &m, int V) {
    return !m.data || (nv_on_boundary(m.data, m.dtype, V) && m.cols % V == 0 && m.stride % V == 0);
}

/* What a kernel that holds whole rows takes. */
static inline nabla_status nv_check_rows(int64_t rows, int64_t cols, const char *what, nv_error *err) {
    if (rows > INT32_MAX || cols > NV_MOST_COLUMNS)
        return nv_fail(err, NABLA_UNSUPPORTED, "%s over %lld rows of %lld columns: the GPU takes up to %d of up to %d",
                       what, (long long)rows, (long long)cols, INT32_MAX, (int)NV_MOST_COLUMNS);
    return NABLA_OK;
}

#endif

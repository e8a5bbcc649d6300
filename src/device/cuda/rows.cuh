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
   each: piece p of thread t is columns [(p * team + t) * V, + V). A thread block is blockDim.y teams.

   A kernel is compiled for three ways in which rows may fit: FULL, wide pieces that fill whole warps and one team a
   thread block, so that nothing is asked on the way; wide pieces; and narrow ones for odd shapes. */

enum { NV_HELD = 16, NV_MOST_COLUMNS = NV_HELD * NV_MOST_THREADS };

template <int WIDTH, bool IS_WIDE, bool IS_FULL> struct nv_fit {
    enum { V = WIDTH, PIECES = NV_HELD / WIDTH };
    static constexpr bool WIDE = IS_WIDE, FULL = IS_FULL;
};

template <typename F> struct nv_held { float at[F::PIECES][F::V]; };

template <typename F> NV_FN int nv_column(int piece) {
    return (piece * (int)blockDim.x + (int)threadIdx.x) * F::V;
}

/* Whether a thread's piece lies in a row of so many columns; 0 of them where a team has no row. */
template <typename F> NV_FN bool nv_mine(int piece, int cols) {
    return F::FULL || nv_column<F>(piece) < cols;
}

/* The row of this team. */
NV_FN int64_t nv_team_row() {
    return (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
}

template <typename F> NV_FN int nv_team_columns(int64_t rows, int64_t cols) {
    return F::FULL || nv_team_row() < rows ? (int)cols : 0;
}

/* Pieces that are not the thread's are 0. */
template <typename F, bool ONCE, typename T> NV_FN void nv_load_pieces(const T *row, int cols, nv_held<F> &to) {
#pragma unroll
    for (int p = 0; p < F::PIECES; p++) {
        if (nv_mine<F>(p, cols)) {
            nv_load_piece<F::V, F::WIDE, ONCE>(row + nv_column<F>(p), to.at[p]);
        } else {
#pragma unroll
            for (int i = 0; i < F::V; i++)
                to.at[p][i] = 0.0f;
        }
    }
}

template <typename F, typename T> NV_FN void nv_load_row(const T *row, int cols, nv_held<F> &to) {
    nv_load_pieces<F, true>(row, cols, to);
}

template <typename F> NV_FN void nv_recall_row(const float *row, int cols, nv_held<F> &to) {
    nv_load_pieces<F, false>(row, cols, to);
}

template <typename F, typename T> NV_FN void nv_store_row(T *row, int cols, const nv_held<F> &from) {
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
        if (nv_mine<F>(p, cols)) nv_store<F::V, F::WIDE>(row + nv_column<F>(p), from.at[p]);
}

/* Combines N numbers of each thread over each team: 8, 16 or a multiple of 32 threads. All threads of the block must
   come; every one gets its team's result, in an order that the team's size alone decides. `none` changes nothing. */
template <typename F, int N, typename C> NV_FN void nv_team_combine(float (&x)[N], float none, C combine) {
    __shared__ float room[N][NV_MOST_THREADS / NV_WARP];
    const int team = (int)blockDim.x, thread = (int)(threadIdx.y * blockDim.x + threadIdx.x), lane = thread % NV_WARP;
    const int width = F::FULL || team > NV_WARP ? NV_WARP : team;
#pragma unroll
    for (int step = width / 2; step; step /= 2)
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = combine(x[i], __shfl_xor_sync(0xffffffffu, x[i], step));
    if (!F::FULL && team <= NV_WARP) return;
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
#pragma unroll
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

template <typename F, int N> NV_FN void nv_team_sum(float (&x)[N]) {
    nv_team_combine<F>(x, 0.0f, nv_adding());
}

/* Of all that a team holds. */
template <typename F> NV_FN float nv_team_squares(const nv_held<F> &v) {
    float squares[1] = {0.0f};
#pragma unroll
    for (int p = 0; p < F::PIECES; p++)
#pragma unroll
        for (int i = 0; i < F::V; i++)
            squares[0] += v.at[p][i] * v.at[p][i];
    nv_team_sum<F>(squares);
    return squares[0];
}

template <typename F> NV_FN float nv_team_most(float x) {
    float most[1] = {x};
    nv_team_combine<F>(most, -INFINITY, nv_greater());
    return most[0];
}

static inline int64_t nv_groups(int64_t items, int64_t group) {
    return (items + group - 1) / group;
}

/* Threads of a team for so many columns. */
static inline unsigned nv_team_for(int64_t cols) {
    const int64_t threads = nv_groups(cols, NV_HELD);
    if (threads <= 8) return 8;
    return threads <= 16 ? 16 : (unsigned)(nv_groups(threads, NV_WARP) * NV_WARP);
}

/* Whether rows of wide pieces fit fully. */
static inline bool nv_full(int64_t cols) {
    return cols % (NV_HELD * NV_WARP) == 0;
}

/* One team where they do, else teams that fill thread blocks of about 256 threads, whole warps each. */
static inline dim3 nv_team_block(int64_t cols, bool full) {
    const unsigned team = nv_team_for(cols);
    return dim3(team, full || team > 256 ? 1 : 256 / team);
}

/* Queues `kernel`, a team a row, with `args` by value: one of the three ways that it was compiled for. */
template <typename A>
static void nv_launch_rows(void (*full)(A), void (*wide)(A), void (*narrow)(A), bool is_wide, int64_t rows,
                           int64_t cols, const A &args, void *stream) {
    const bool is_full = is_wide && nv_full(cols);
    const dim3 block = nv_team_block(cols, is_full);
    void (*const kernel)(A) = is_full ? full : is_wide ? wide : narrow;
    NABLA_LAUNCH(kernel, (unsigned)nv_groups(rows, block.y), block, 0, stream)(args);
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

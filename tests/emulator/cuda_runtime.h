// SPDX-License-Identifier: Apache-2.0
// CUDA C++ as libnabla's kernels use it, for an ordinary C++ compiler: words of the language, launches, and the threads
// of a block as fibers that take turns at barriers and at what a warp does together.
#ifndef EMULATOR_CUDA_RUNTIME_H
#define EMULATOR_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __shared__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {
    }
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
inline uint2 make_uint2(uint32_t x, uint32_t y) {
    return {x, y};
}
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}

// ---- launches

enum { EMULATOR_SHARED_BYTES = 232448 /* that a block may ask for, as on Hopper */ };

// Runs work now, or keeps it where the stream is being recorded.
void emulator_queue(cudaStream_t stream, std::function<void()> work);
// Every block of the grid, one after the other.
void emulator_run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel);
unsigned char *emulator_shared();

template <typename... P> struct emulator_launch {
    void (*kernel)(P...);
    dim3 grid, block;
    size_t bytes;
    cudaStream_t stream;
    template <typename... A> void operator()(A... arguments) const {
        const emulator_launch launch = *this;
        emulator_queue(stream, [=] {
            emulator_run(launch.grid, launch.block, launch.bytes, [&] { launch.kernel(arguments...); });
        });
    }
};

template <typename... P>
emulator_launch<P...> emulator_prepare(void (*kernel)(P...), dim3 grid, dim3 block, size_t bytes, cudaStream_t stream) {
    return {kernel, grid, block, bytes, stream};
}

template <typename F> cudaError_t cudaFuncSetAttribute(F, int, int bytes) {
    return bytes <= EMULATOR_SHARED_BYTES ? cudaSuccess : cudaErrorInvalidValue;
}

#define NABLA_LAUNCH(kernel, grid, block, shared_bytes, stream) \
    emulator_prepare(kernel, grid, block, shared_bytes, (cudaStream_t)(stream))
#define NABLA_LAUNCH_SHARED(name, alignment) unsigned char *const name = emulator_shared()
#define NABLA_INSTRUCTION static inline

// ---- threads

struct emulator_index {
    unsigned x, y, z;
};
emulator_index emulator_thread();
extern dim3 emulator_grid, emulator_block_size;
extern emulator_index emulator_block;
#define threadIdx emulator_thread()
#define blockIdx emulator_block
#define blockDim emulator_block_size
#define gridDim emulator_grid

[[noreturn]] void emulator_fail(const char *what);
void emulator_yield(); // lets other threads run
void emulator_got_on();
// Lets other threads run until done() holds.
template <typename F> void emulator_wait(F done) {
    while (!done())
        emulator_yield();
    emulator_got_on();
}
// Comes to a meeting of `count` threads at place `id`. True for the last to come, which then must call emulator_part();
// the others return once it has.
bool emulator_come(int id, int count);
void emulator_part(int id);
// A meeting at which the last to come does `act` for all.
template <typename F> void emulator_meet(int id, int count, F act) {
    if (!emulator_come(id, count)) return;
    act();
    emulator_part(id);
}
int emulator_lane();
int emulator_warp();

// Places: 0 the block, 1 to 15 named barriers, then warps, then warpgroups.
enum { EMULATOR_WARP_PLACE = 16, EMULATOR_GROUP_PLACE = EMULATOR_WARP_PLACE + 32 };

inline void __syncthreads() {
    emulator_meet(0, (int)(blockDim.x * blockDim.y * blockDim.z), [] {});
}
inline void __syncwarp(unsigned = 0xffffffff) {
    emulator_meet(EMULATOR_WARP_PLACE + emulator_warp(), 32, [] {});
}

// What a warp does together: every lane gives x, then f(all 32, own lane) is each one's result.
template <typename T, typename F> auto emulator_exchange(T x, F f) {
    static unsigned char room[32][32][16];
    static_assert(sizeof(T) <= 16, "room for one lane's value");
    const int warp = emulator_warp(), lane = emulator_lane();
    std::memcpy(room[warp][lane], &x, sizeof x);
    __syncwarp();
    T all[32];
    for (int i = 0; i < 32; i++)
        std::memcpy(&all[i], room[warp][i], sizeof(T));
    __syncwarp();
    return f(all, lane);
}

template <typename T> T __shfl_sync(unsigned, T x, int from) {
    return emulator_exchange(x, [=](const T *all, int) { return all[from & 31]; });
}
template <typename T> T __shfl_xor_sync(unsigned, T x, int mask) {
    return emulator_exchange(x, [=](const T *all, int lane) { return all[lane ^ mask]; });
}
template <typename T> T __shfl_up_sync(unsigned, T x, int step) {
    return emulator_exchange(x, [=](const T *all, int lane) { return lane >= step ? all[lane - step] : x; });
}
template <typename T> T __shfl_down_sync(unsigned, T x, int step) {
    return emulator_exchange(x, [=](const T *all, int lane) { return lane + step < 32 ? all[lane + step] : x; });
}
inline unsigned __ballot_sync(unsigned, bool p) {
    return emulator_exchange(p, [](const bool *all, int) {
        unsigned votes = 0;
        for (int i = 0; i < 32; i++)
            votes |= (unsigned)all[i] << i;
        return votes;
    });
}
inline bool __any_sync(unsigned mask, bool p) {
    return __ballot_sync(mask, p) != 0;
}
inline bool __all_sync(unsigned mask, bool p) {
    return __ballot_sync(mask, p) == 0xffffffff;
}
inline unsigned __match_any_sync(unsigned, int x) {
    return emulator_exchange(x, [](const int *all, int lane) {
        unsigned same = 0;
        for (int i = 0; i < 32; i++)
            same |= (unsigned)(all[i] == all[lane]) << i;
        return same;
    });
}
template <typename T> T __reduce_add_sync(unsigned, T x) {
    return emulator_exchange(x, [](const T *all, int) {
        T sum = 0;
        for (int i = 0; i < 32; i++)
            sum += all[i];
        return sum;
    });
}
template <typename T> T __reduce_max_sync(unsigned, T x) {
    return emulator_exchange(x, [](const T *all, int) { return *std::max_element(all, all + 32); });
}
template <typename T> T __reduce_min_sync(unsigned, T x) {
    return emulator_exchange(x, [](const T *all, int) { return *std::min_element(all, all + 32); });
}

// ---- numbers

template <typename T> T __ldg(const T *p) {
    if ((uintptr_t)p % alignof(T)) emulator_fail("a load that is not aligned");
    return *p;
}
template <typename T> T __ldcs(const T *p) {
    return __ldg(p);
}
template <typename T> void __stcs(T *p, T x) {
    if ((uintptr_t)p % alignof(T)) emulator_fail("a store that is not aligned");
    *p = x;
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
inline int __ffs(int x) {
    return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
    return __builtin_ffsll(x);
}
inline uint32_t __float_as_uint(float x) {
    uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    return u;
}
inline float __uint_as_float(uint32_t u) {
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
}
// volatile: no fused multiply-add, which is what these are for
inline float __fmul_rn(float x, float y) {
    volatile float z = x * y;
    return z;
}
inline float __fsub_rn(float x, float y) {
    volatile float z = x - y;
    return z;
}
inline float __fadd_rn(float x, float y) {
    volatile float z = x + y;
    return z;
}
inline float __expf(float x) {
    return std::exp(x);
}
inline float __fdividef(float x, float y) {
    return x / y;
}
template <typename T> T atomicAdd(T *p, T x) {
    const T before = *p;
    *p += x;
    return before;
}
template <typename T> T atomicCAS(T *p, T expected, T x) {
    const T before = *p;
    if (before == expected) *p = x;
    return before;
}
template <typename T> T atomicOr(T *p, T x) {
    const T before = *p;
    *p |= x;
    return before;
}
template <typename T> T atomicMin(T *p, T x) {
    const T before = *p;
    *p = std::min(before, x);
    return before;
}

// Addresses in shared memory, as instructions take them.
inline uint32_t emulator_shared_offset(const void *p) {
    const ptrdiff_t at = (const unsigned char *)p - emulator_shared();
    if (at < 0 || at > EMULATOR_SHARED_BYTES) emulator_fail("an address outside shared memory");
    return (uint32_t)at;
}

#endif

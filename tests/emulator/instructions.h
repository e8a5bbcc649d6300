// SPDX-License-Identifier: Apache-2.0
// What src/attention/cuda/instructions.cuh has words for, on the emulated device. Asynchronous instructions do their
// work where they are issued; copies of sm80 alone wait for their wait.
#ifndef EMULATOR_INSTRUCTIONS_H
#define EMULATOR_INSTRUCTIONS_H

#include "cuda.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"

inline uint32_t shared_address(const void *p) {
    return emulator_shared_offset(p);
}

inline float exp2_fast(float x) {
    return std::exp2(x);
}

// ---- sm80: copies and matrices of a warp

void copy_async(uint32_t to, const void *from, uint32_t bytes, uint32_t size);
void copies_wait();

inline void copy_async_16(uint32_t to, const void *from, uint32_t bytes) {
    copy_async(to, from, bytes, 16);
}
inline void copy_async_4(uint32_t to, const void *from, uint32_t bytes) {
    copy_async(to, from, bytes, 4);
}

void emulator_load_matrices(uint32_t *out, uint32_t address, bool transposed);
void emulator_multiply_add(float *c, const uint32_t *a, const uint32_t *b, bool half);

inline void load_matrices(uint32_t (&out)[4], uint32_t address) {
    emulator_load_matrices(out, address, false);
}
inline void load_matrices_transposed(uint32_t (&out)[4], uint32_t address) {
    emulator_load_matrices(out, address, true);
}
template <typename T> void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t b[2] = {b0, b1};
    emulator_multiply_add(c, a, b, std::is_same_v<T, __half>);
}

// ---- sm90: roles, barriers, bulk copies, products of a warpgroup

enum { WARPGROUP = 128, PANEL_BYTES = 64 * 128 };

template <int COUNT> void more_registers() {
}
template <int COUNT> void fewer_registers() {
}

void barrier_init(uint64_t *b, int arrivals);
inline void barrier_init_done() {
}
void barrier_arrive(uint64_t *b);
void barrier_expect(uint64_t *b, uint32_t bytes);
void barrier_wait(uint64_t *b, uint32_t parity);

inline void warpgroup_sync(int warpgroup) {
    emulator_meet(warpgroup + 1, WARPGROUP, [] {});
}
inline void fence_async() {
}

enum cache_hint : uint64_t { READ_ONCE, READ_OFTEN };
inline void prefetch_map(const CUtensorMap *) {
}
void copy_panel(void *to, const CUtensorMap *map, uint64_t *b, int column, int row, int head, int batch, cache_hint);
void copy_bytes(void *to, const void *from, uint32_t bytes, uint64_t *b);

inline void products_begin() {
}
inline void products_commit() {
}
template <int PENDING> void products_wait() {
}
template <int N> void settled(float (&)[N]) {
}
inline void computed(float) {
}

// acc [64 x columns] (+)= a [64 x 16] b: a of registers, or (NULL) at the operand a_at.
void emulator_product(float *acc, int columns, const uint32_t *a, uint64_t a_at, uint64_t b, bool transposed_b,
                      bool add, bool half);

template <typename T> struct sixteen {
    static constexpr bool HALF = std::is_same_v<T, __half>;
    template <int TRANSPOSED_B, int N> static void product(float (&d)[N], const uint32_t *a, uint64_t b, int add) {
        emulator_product(d, 2 * N, a, 0, b, TRANSPOSED_B, add, HALF);
    }
    static void product(float (&d)[32], uint64_t a, uint64_t b, int add) {
        emulator_product(d, 64, nullptr, a, b, false, add, HALF);
    }
};

#endif

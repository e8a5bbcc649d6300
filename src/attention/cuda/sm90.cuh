/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hopper's own instructions under names: barriers in shared memory, bulk tensor copies, warpgroup products. Tiles in
 * shared memory are 64 rows x 64 columns of 16-bit numbers, rows of 128 bytes, in the 128-byte swizzle that copies
 * write and products read; a tile of D columns is D / 64 such panels one after the other. (PTX ISA, "Asynchronous
 * warpgroup level matrix instructions" and "Tensor copies".)
 */
#ifndef NABLA_SM90_CUH
#define NABLA_SM90_CUH

#include "cuda.h"
#include "instructions.cuh"
#include "pack.cuh"

template <int D>
__device__ __forceinline__ void copy_tile(char *to, const CUtensorMap *map, uint64_t *b, int row, int head, int batch,
                                          cache_hint hint) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++)
        copy_panel(to + panel * PANEL_BYTES, map, b, panel * 64, row, head, batch, hint);
}

/* The same in all lanes, so that it lives in a uniform register. */
__device__ __forceinline__ uint32_t uniform(uint32_t x) {
    return __shfl_sync(0xffffffff, x, 0);
}

/* Where a product finds an operand; address: the same in all lanes, best in a way that the compiler sees. The 128-byte
   swizzle repeats every 8 rows, 1024 bytes. Operands whose rows run along the sum (K-major) move 32 bytes for 16 terms;
   operands whose rows run across it (transposed) 16 rows, and their panels follow each other at the leading offset. */
__device__ __forceinline__ uint64_t operand_at(uint32_t address) {
    const uint32_t swizzle_128 = 1u << 30, stride = 1024 >> 4, leading = PANEL_BYTES >> 4;
    return (uint64_t)(swizzle_128 | stride) << 32 | (leading << 16 | address >> 4);
}

__device__ __forceinline__ uint64_t operand(const void *tile) {
    return operand_at(uniform(shared_address(tile)));
}

/* It, `bytes` further on: never past the address's own bits, so the upper half stays a constant. */
__device__ __forceinline__ uint64_t moved(uint64_t operand, int bytes) {
    return operand & UINT64_C(0xffffffff00000000) | (uint32_t)((uint32_t)operand + (uint32_t)(bytes >> 4));
}

/* How far 16 terms of a K-major tile lie behind its first. */
__device__ __forceinline__ constexpr int term_bytes(int k) {
    return k / 4 * PANEL_BYTES + k % 4 * 32;
}

/* acc[64 x 64] = a b^T over D terms: a in registers (fragments of 16 terms, 4 a thread), b the operand of a tile of 64
   rows. */
template <typename T, int D>
__device__ __forceinline__ void scores(float (&acc)[32], const uint32_t (&a)[D / 4], uint64_t b) {
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        sixteen<T>::template product<0>(acc, a + 4 * k, moved(b, term_bytes(k)), k > 0);
}

/* The same with a in shared memory too. */
template <typename T, int D> __device__ __forceinline__ void scores(float (&acc)[32], uint64_t a, uint64_t b) {
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        sixteen<T>::product(acc, moved(a, term_bytes(k)), moved(b, term_bytes(k)), k > 0);
}

/* acc[64 x D] += p b over 64 terms: p in registers, b the operand of a tile of 64 rows. */
template <typename T, int D>
__device__ __forceinline__ void weigh(float (&acc)[D / 2], const uint32_t (&p)[16], uint64_t b) {
#pragma unroll
    for (int k = 0; k < 4; k++)
        sixteen<T>::template product<1>(acc, p + 4 * k, moved(b, k * 2048), 1);
}

/* ---- numbers of an accumulator: thread t of a warpgroup holds of row (t / 32) * 16 + t % 32 / 4 the columns
   8 j + 2 (t % 4) + {0, 1} in [4 j + {0, 1}], and of the row 8 below those in [4 j + {2, 3}]. */

/* An accumulator of 64 columns as the left operand of a product over those columns. */
template <typename T> __device__ __forceinline__ void pack_operand(uint32_t (&to)[16], const float (&x)[32]) {
#pragma unroll
    for (int i = 0; i < 16; i++)
        to[i] = pack<T>(x[2 * i], x[2 * i + 1]);
}

/* The left operand of products over D terms, from a tile in shared memory. */
template <int D> __device__ __forceinline__ void load_operand(uint32_t (&to)[D / 4], uint32_t tile) {
    const int thread = threadIdx.x % WARPGROUP, lane = thread % 32, row = thread / 32 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        const int chunk = 2 * k + lane / 16; /* of 8 numbers */
        const uint32_t at = tile + chunk / 8 * PANEL_BYTES + row * 128 + ((chunk ^ row) & 7) * 16;
        load_matrices((uint32_t(&)[4])to[4 * k], at);
    }
}

/* Zeroes rows [count, 64) of a tile; all threads of a warpgroup, which then fence and sync. Whatever lies there belongs
   to other blocks, and 0 x NaN must not reach a sum. */
template <int D> __device__ __forceinline__ void clear_rows(char *tile, int count) {
    const int thread = threadIdx.x % WARPGROUP, chunks = 8; /* of 16 bytes in a row of a panel */
#pragma unroll 1
    for (int row = count + thread / chunks; row < 64; row += WARPGROUP / chunks)
#pragma unroll
        for (int panel = 0; panel < D / 64; panel++)
            *(uint4 *)(tile + panel * PANEL_BYTES + row * 128 + thread % chunks * 16) = make_uint4(0, 0, 0, 0);
}

#endif

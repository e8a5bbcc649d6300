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

#include <cuda.h>

enum { PANEL_BYTES = 64 * 128, WARPGROUP = 128 };

/* ---- registers of a role */

template <int COUNT> __device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> __device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* ---- barriers */

__device__ __forceinline__ void barrier_init(uint64_t *b, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals));
}

__device__ __forceinline__ void barrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint64_t *b) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

/* One arrival that also announces `bytes` of copies. */
__device__ __forceinline__ void barrier_expect(uint64_t *b, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
                 : "memory");
}

/* Until the phase of this parity is over. */
__device__ __forceinline__ void barrier_wait(uint64_t *b, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra over;\n"
                 "bra again;\n"
                 "over:\n"
                 "}" ::"r"(shared_address(b)),
                 "r"(parity)
                 : "memory");
}

/* Threads of one warpgroup; ids 1 and up, 0 being __syncthreads(). */
__device__ __forceinline__ void warpgroup_sync(int warpgroup) {
    asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");
}

/* Ordinary writes to shared memory before, products and copies after. */
__device__ __forceinline__ void fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- copies */

/* What the level-2 cache should think of what a copy reads. */
enum cache_hint : uint64_t { READ_ONCE = 0x12f0000000000000, READ_OFTEN = 0x14f0000000000000 };

/* A box of 64 columns x 64 rows of a [B, S, H, D] tensor. */
__device__ __forceinline__ void copy_panel(void *to, const CUtensorMap *map, uint64_t *b, int column, int row, int head,
                                           int batch, cache_hint hint) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
                 "[%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(b)), "r"(column), "r"(row), "r"(head), "r"(batch), "l"((uint64_t)hint)
                 : "memory");
}

/* Both addresses and the size on 16 bytes. */
__device__ __forceinline__ void copy_bytes(void *to, const void *from, uint32_t bytes, uint64_t *b) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(b))
                 : "memory");
}

template <int D>
__device__ __forceinline__ void copy_tile(char *to, const CUtensorMap *map, uint64_t *b, int row, int head, int batch,
                                          cache_hint hint) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++)
        copy_panel(to + panel * PANEL_BYTES, map, b, panel * 64, row, head, batch, hint);
}

__device__ __forceinline__ void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* ---- products */

/* The same in all lanes, so that it lives in a uniform register. */
__device__ __forceinline__ uint32_t uniform(uint32_t x) {
    return __shfl_sync(0xffffffff, x, 0);
}

/* Where a product finds an operand. The 128-byte swizzle repeats every 8 rows, 1024 bytes. Operands whose rows run
   along the sum (K-major) move 32 bytes for 16 terms; operands whose rows run across it (transposed) 16 rows, and their
   panels follow each other at the leading offset. */
__device__ __forceinline__ uint64_t operand_at(uint32_t address) {
    const uint64_t swizzle_128 = UINT64_C(1) << 62;
    return swizzle_128 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)(PANEL_BYTES >> 4) << 16 | uniform(address) >> 4;
}

__device__ __forceinline__ uint64_t operand(const void *tile) {
    return operand_at(shared_address(tile));
}

/* It, `bytes` further on. */
__device__ __forceinline__ uint64_t moved(uint64_t operand, int bytes) {
    return operand + (uint64_t)(bytes >> 4);
}

__device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most PENDING groups are under way. */
template <int PENDING> __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* Nothing that uses x moves to before this place: what a product leaves is there only after the wait. */
template <int N> __device__ __forceinline__ void settled(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(x[i])::"memory");
}

/* x >= 0, and all it comes from, is computed before this place. Left alone, the assembler puts exponentials after the
   wait that they should hide. */
__device__ __forceinline__ void computed(float x) {
    asm volatile("{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n@p nanosleep.u32 0;\n}" ::"f"(x) : "memory");
}

#define F8(d, i)                                                                                                \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
#define LIST32                                                                                                        \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
    "%30,%31}"
#define LIST64                                                                                                        \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
    "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"    \
    "%57,%58,%59,%60,%61,%62,%63}"

/* acc[64 x N] (+)= a[64 x 16] b[N x 16]^T, or b[16 x N] with `transposed`; 16-bit numbers TYPE. `add` 0 overwrites. */
#define PRODUCT_REGISTERS(TYPE, N, LIST, A0, A1, A2, A3, B, ADD, TRANSPOSED, ...)                                  \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" ADD ", 0;\n"                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." TYPE "." TYPE " " LIST ", {%" A0 ",%" A1 ",%" A2 \
                 ",%" A3 "}, %" B ", p, 1, 1, %" TRANSPOSED ";\n}"                                                 \
                 : __VA_ARGS__                                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TRANSPOSED_B))

template <typename T> struct sixteen; /* what differs between fp16 and bf16 */

#define DEFINE_SIXTEEN(T, TYPE)                                                                                  \
    template <> struct sixteen<T> {                                                                              \
        template <int TRANSPOSED_B>                                                                              \
        static __device__ __forceinline__ void product(float (&d)[32], const uint32_t *a, uint64_t b, int add) { \
            PRODUCT_REGISTERS(TYPE, "64", LIST32, "32", "33", "34", "35", "36", "37", "38", F8(d, 0), F8(d, 8),  \
                              F8(d, 16), F8(d, 24));                                                             \
        }                                                                                                        \
        template <int TRANSPOSED_B>                                                                              \
        static __device__ __forceinline__ void product(float (&d)[64], const uint32_t *a, uint64_t b, int add) { \
            PRODUCT_REGISTERS(TYPE, "128", LIST64, "64", "65", "66", "67", "68", "69", "70", F8(d, 0), F8(d, 8), \
                              F8(d, 16), F8(d, 24), F8(d, 32), F8(d, 40), F8(d, 48), F8(d, 56));                 \
        }                                                                                                        \
        static __device__ __forceinline__ void product(float (&d)[32], uint64_t a, uint64_t b, int add) {        \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                            \
                         "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " " LIST32                  \
                         ", %32, %33, p, 1, 1, 0, 0;\n}"                                                         \
                         : F8(d, 0), F8(d, 8), F8(d, 16), F8(d, 24)                                              \
                         : "l"(a), "l"(b), "r"(add));                                                            \
        }                                                                                                        \
    }

DEFINE_SIXTEEN(__nv_bfloat16, "bf16");
DEFINE_SIXTEEN(__half, "f16");
#undef DEFINE_SIXTEEN
#undef PRODUCT_REGISTERS
#undef LIST32
#undef LIST64
#undef F8

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
        load_matrices(to + 4 * k, at);
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

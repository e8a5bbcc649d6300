/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that CUDA C has no words for, under names, and nothing else (PTX ISA). sm_80 and up: copies that do not
 * wait, ldmatrix, mma.m16n8k16, ex2. sm_90a: registers of a role, barriers in shared memory, bulk copies, wgmma.
 *
 * Tests without a GPU put tests/emulator in its place.
 */
#ifndef NABLA_CUDA_INSTRUCTIONS_CUH
#define NABLA_CUDA_INSTRUCTIONS_CUH

#ifdef NABLA_EMULATOR
#include "instructions.h"
#else

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <type_traits>

/* What follows kernel<<<...>>>: (arguments). */
#define NABLA_LAUNCH(kernel, grid, block, shared_bytes, stream) kernel<<<grid, block, shared_bytes, stream>>>
/* The shared memory whose size a launch gives, as unsigned char[]. */
#define NABLA_LAUNCH_SHARED(name, alignment) \
    extern __shared__ __align__(alignment)   \
    unsigned char name[]

#define NABLA_INSTRUCTION static __device__ __forceinline__

/* A place in shared memory, as instructions take it. */
NABLA_INSTRUCTION uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 2^x to 2 units in the last place; 0 below 2^-126, exactly 1 at 0. */
NABLA_INSTRUCTION float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- copies to shared memory that do not wait; bytes 0: fills with zeros and reads nothing */

NABLA_INSTRUCTION void copy_async_16(uint32_t dst, const void *src, uint32_t bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

NABLA_INSTRUCTION void copy_async_4(uint32_t dst, const void *src, uint32_t bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

/* This thread's copies have landed; what other threads copied is there after the barrier that follows. */
NABLA_INSTRUCTION void copies_wait() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* ---- matrices of a warp */

/* Four 8 x 8 matrices of 16-bit numbers; lane 8 i + j gives the address of row j of matrix i, on 16 bytes. */
NABLA_INSTRUCTION void load_matrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

NABLA_INSTRUCTION void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* c [16 x 8] += a [16 x 16] b [16 x 8]: factors fp16 or bf16, sums fp32. */
template <typename T>
NABLA_INSTRUCTION void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (std::is_same_v<T, __half>)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- sm_90a: registers of a role */

enum { WARPGROUP = 128 /* threads */, PANEL_BYTES = 64 * 128 /* 64 rows of 64 16-bit numbers */ };

template <int COUNT> static __device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> static __device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* ---- barriers */

static __device__ __forceinline__ void barrier_init(uint64_t *b, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals));
}

static __device__ __forceinline__ void barrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void barrier_arrive(uint64_t *b) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

/* One arrival that also announces `bytes` of copies. */
static __device__ __forceinline__ void barrier_expect(uint64_t *b, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
                 : "memory");
}

/* Until the phase of this parity is over. */
static __device__ __forceinline__ void barrier_wait(uint64_t *b, uint32_t parity) {
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
static __device__ __forceinline__ void warpgroup_sync(int warpgroup) {
    asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");
}

/* Ordinary writes to shared memory before, products and copies after. */
static __device__ __forceinline__ void fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- copies */

/* What the level-2 cache should think of what a copy reads. */
enum cache_hint : uint64_t { READ_ONCE = 0x12f0000000000000, READ_OFTEN = 0x14f0000000000000 };

/* A box of 64 columns x 64 rows of a [B, S, H, D] tensor. */
static __device__ __forceinline__ void copy_panel(void *to, const CUtensorMap *map, uint64_t *b, int column, int row,
                                                  int head, int batch, cache_hint hint) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
                 "[%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(b)), "r"(column), "r"(row), "r"(head), "r"(batch), "l"((uint64_t)hint)
                 : "memory");
}

/* Both addresses and the size on 16 bytes. */
static __device__ __forceinline__ void copy_bytes(void *to, const void *from, uint32_t bytes, uint64_t *b) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(b))
                 : "memory");
}

static __device__ __forceinline__ void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* ---- products of a warpgroup */

static __device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most PENDING groups are under way. */
template <int PENDING> static __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* Nothing that uses x moves to before this place: what a product leaves is there only after the wait. */
template <int N> static __device__ __forceinline__ void settled(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(x[i])::"memory");
}

/* x >= 0, and all it comes from, is computed before this place. Left alone, the assembler puts exponentials after the
   wait that they should hide. */
static __device__ __forceinline__ void computed(float x) {
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

#endif
#endif

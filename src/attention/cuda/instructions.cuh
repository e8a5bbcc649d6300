/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that CUDA C has no words for, sm_80 and up (PTX ISA: "ldmatrix", "mma.m16n8k16", "ex2"), and operands
   for them: T is __half or __nv_bfloat16. */
#ifndef NABLA_CUDA_INSTRUCTIONS_CUH
#define NABLA_CUDA_INSTRUCTIONS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

/* Of shared memory, as instructions want it. */
static __device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices; lane 8 i + j gives the address of row j of matrix i, in shared memory, on 16 bytes. */
static __device__ __forceinline__ void load_matrices(uint32_t *out, uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

/* The same, each matrix transposed. */
static __device__ __forceinline__ void load_matrices_transposed(uint32_t *out, uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

/* c [16 x 8] += a [16 x 16] b [16 x 8]: 16-bit factors, fp32 sums. */
template <typename T>
static __device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
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

/* Two floats as operands, the first in the lower half. */
template <typename T> static __device__ __forceinline__ uint32_t pack(float x, float y) {
    uint32_t bits;
    if constexpr (std::is_same_v<T, __half>) {
        const __half2 v = __floats2half2_rn(x, y);
        memcpy(&bits, &v, sizeof bits);
    } else {
        const __nv_bfloat162 v = __floats2bfloat162_rn(x, y);
        memcpy(&bits, &v, sizeof bits);
    }
    return bits;
}

/* 2^x to 2 units in the last place; 0 below 2^-126, exactly 1 at 0. */
static __device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

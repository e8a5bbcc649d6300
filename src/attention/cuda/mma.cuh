/* SPDX-License-Identifier: Apache-2.0 */
/* Two instructions of the tensor cores, sm_80 and up (PTX ISA, "mma.m16n8k16" and "ldmatrix"). */
#ifndef NABLA_CUDA_MMA_CUH
#define NABLA_CUDA_MMA_CUH

#include <cuda_fp16.h>
#include <stdint.h>

/* Four 8 x 8 matrices; lane 8 i + j gives the address of row j of matrix i, in shared memory, on 16 bytes. */
static __device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const __half *row) {
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

/* c [16 x 8] += a [16 x 16] b [16 x 8]: fp16 factors, fp32 sums. */
static __device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

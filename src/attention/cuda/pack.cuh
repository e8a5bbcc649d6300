/* SPDX-License-Identifier: Apache-2.0 */
/* Two floats as 16-bit operands of a product, the first in the lower half. */
#ifndef NABLA_CUDA_PACK_CUH
#define NABLA_CUDA_PACK_CUH

#include "instructions.cuh"

template <typename T> static __device__ __forceinline__ uint32_t pack(float x, float y) {
    uint32_t bits;
    if constexpr (std::is_same_v<T, __half>) {
        const __half2 h = __floats2half2_rn(x, y);
        memcpy(&bits, &h, sizeof bits);
    } else {
        const __nv_bfloat162 h = __floats2bfloat162_rn(x, y);
        memcpy(&bits, &h, sizeof bits);
    }
    return bits;
}

#endif

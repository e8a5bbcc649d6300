// SPDX-License-Identifier: Apache-2.0
#ifndef EMULATOR_CUDA_FP16_H
#define EMULATOR_CUDA_FP16_H

#include "cuda_runtime.h"

// The compiler's own conversion is a slow call where the processor's is not asked for.
inline float emulator_half(uint16_t bits) {
    static const std::vector<float> all = [] {
        std::vector<float> table(65536);
        for (uint32_t i = 0; i < 65536; i++) {
            const uint16_t one = (uint16_t)i;
            _Float16 x;
            std::memcpy(&x, &one, sizeof x);
            table[i] = (float)x;
        }
        return table;
    }();
    return all[bits];
}

struct __half {
    _Float16 value;
    __half() = default;
    explicit __half(float x) : value((_Float16)x) {
    }
    operator float() const {
        uint16_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        return emulator_half(bits);
    }
};
struct alignas(4) __half2 {
    __half x, y;
};
inline __half __float2half_rn(float x) {
    return __half(x);
}
inline float __half2float(__half x) {
    return (float)x;
}
inline __half2 __floats2half2_rn(float x, float y) {
    return {__half(x), __half(y)};
}
inline float2 __half22float2(__half2 v) {
    return {(float)v.x, (float)v.y};
}

#endif

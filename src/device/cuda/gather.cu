/* SPDX-License-Identifier: Apache-2.0 */
/* What goes around a product that cuBLASLt does not do: a bias in fp32, the pixels under a convolution's kernel. */
#include "attention/cuda/instructions.cuh"
#include "device/cuda/products.h"

enum { THREADS = 256 };

static unsigned blocks_for(int64_t items) {
    const int64_t blocks = (items + THREADS - 1) / THREADS;
    return (unsigned)min(blocks, (int64_t)65536); /* each takes several items then */
}

static __device__ __forceinline__ int64_t first_item() {
    return (int64_t)blockIdx.x * THREADS + threadIdx.x;
}

static __device__ __forceinline__ int64_t item_step() {
    return (int64_t)gridDim.x * THREADS;
}

static __global__ void __launch_bounds__(THREADS)
    bias_rows(const float *bias, float *y, int64_t count, int64_t cols, int64_t stride, int add) {
    for (int64_t i = first_item(); i < count; i += item_step()) {
        float *at = y + i / cols * stride + i % cols;
        *at = add ? *at + bias[i % cols] : bias[i % cols];
    }
}

int nv_cuda_launch_bias(const float *bias, float *y, int64_t rows, int64_t cols, int64_t stride, int add,
                        void *stream) {
    const int64_t count = rows * cols;
    if (count == 0) return cudaSuccess;
    NABLA_LAUNCH(bias_rows, blocks_for(count), THREADS, 0, (cudaStream_t)stream)(bias, y, count, cols, stride, add);
    return (int)cudaGetLastError();
}

/* Items are pieces of a pixel, neighbours of neighbouring threads; T is as wide as they allow. */
template <typename T>
static __global__ void __launch_bounds__(THREADS) gather_pixels(nv_cuda_gather a, int64_t pieces) {
    const nv_conv_shape s = a.shape;
    const int64_t area = (int64_t)s.kernel * s.kernel, count = a.lines * a.out_width * area * pieces;
    const T *x = (const T *)a.x;
    T *out = (T *)a.out;
    for (int64_t i = first_item(); i < count; i += item_step()) {
        const int64_t piece = i % pieces, tap = i / pieces % area, pixel = i / pieces / area;
        const int64_t h = (a.first + pixel / a.out_width) * s.stride + tap / s.kernel - s.pad_before,
                      w = pixel % a.out_width * s.stride + tap % s.kernel - s.pad_before;
        const bool inside = h >= 0 && w >= 0 && h < a.height && w < a.width;
        out[i] = inside ? x[(h * a.width + w) * pieces + piece] : T{};
    }
}

template <typename T> static int gather(const nv_cuda_gather *a, int64_t pieces, cudaStream_t stream) {
    const int64_t count = a->lines * a->out_width * a->shape.kernel * a->shape.kernel * pieces;
    if (count == 0) return cudaSuccess;
    NABLA_LAUNCH(gather_pixels<T>, blocks_for(count), THREADS, 0, stream)(*a, pieces);
    return (int)cudaGetLastError();
}

int nv_cuda_launch_gather(const nv_cuda_gather *a, void *stream) {
    const int64_t pixel = (int64_t)a->shape.in * (a->dtype == NABLA_BF16 ? 2 : 4);
    const uintptr_t bits = (uintptr_t)a->x | (uintptr_t)a->out | (uintptr_t)pixel;
    if (bits % 16 == 0) return gather<uint4>(a, pixel / 16, (cudaStream_t)stream);
    if (bits % 4 == 0) return gather<uint32_t>(a, pixel / 4, (cudaStream_t)stream);
    return gather<uint16_t>(a, pixel / 2, (cudaStream_t)stream);
}

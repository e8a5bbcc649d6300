/* SPDX-License-Identifier: Apache-2.0 */
/* The squared error and its gradient: chunks of fixed length are summed in fp64, then the chunks in order. */
#include "attention/cuda/instructions.cuh"
#include "device/cuda/cuda.h"
#include "device/cuda/ops.h"

enum { THREADS = 256, CHUNK = 1 << 15, MOST_CHUNKS = 65535 /* of a sample: the grid's y */ };

/* The sum over the thread block, in a fixed order; thread 0 gets it. */
static __device__ __forceinline__ double block_sum(double x) {
    __shared__ double room[THREADS];
    room[threadIdx.x] = x;
    for (int step = THREADS / 2; step; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < step) room[threadIdx.x] += room[threadIdx.x + step];
    }
    return room[0];
}

static __global__ void __launch_bounds__(THREADS)
    mse_of_chunks(int64_t n, int64_t chunk, double mean, const float *weight, const float *target, float *output,
                  double *sums) {
    const int64_t b = blockIdx.x, first = (int64_t)blockIdx.y * chunk, last = min(first + chunk, n);
    const float scale = (float)(2.0 * mean * (double)weight[b]);
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < last; i += THREADS) {
        const float d = output[b * n + i] - target[b * n + i];
        sum += (double)d * (double)d;
        output[b * n + i] = scale * d;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[b * gridDim.y + blockIdx.y] = (double)weight[b] * sum * mean;
}

static __global__ void __launch_bounds__(THREADS) sum_of_chunks(const double *sums, int64_t count, double *loss) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < count; i += THREADS)
        sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = sum;
}

nabla_status nv_cuda_mse(nv_device *dev, int64_t batch, int64_t n, const float *weight, const float *target,
                         float *output, double *loss, nv_error *err) {
    nv_cuda *d = nv_cuda_of(dev);
    int64_t chunk = CHUNK;
    void *scratch;
    while ((n + chunk - 1) / chunk > MOST_CHUNKS)
        chunk *= 2;
    const int64_t chunks = (n + chunk - 1) / chunk, count = batch * chunks;
    NV_TRY(nv_cuda_scratch(d, (size_t)count * sizeof(double), &scratch, err));
    double *sums = (double *)scratch;
    NABLA_LAUNCH(mse_of_chunks, dim3((unsigned)batch, (unsigned)chunks), THREADS, 0, (cudaStream_t)d->stream)
    (n, chunk, 1.0 / ((double)batch * (double)n), weight, target, output, sums);
    NABLA_LAUNCH(sum_of_chunks, 1, THREADS, 0, (cudaStream_t)d->stream)(sums, count, loss);
    return nv_cuda_launched(err, "a squared error");
}

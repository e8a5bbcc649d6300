/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda/cuda.h"

#include <cuda_runtime_api.h>

nabla_status nv_cuda_launched(nv_error *err, const char *what) {
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return NABLA_OK;
    return nv_fail(err, error == cudaErrorMemoryAllocation ? NABLA_OUT_OF_MEMORY : NABLA_INTERNAL,
                   "the GPU failed at %s: %s", what, cudaGetErrorString(error));
}

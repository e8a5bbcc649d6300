/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA device from inside: what its C files and its kernels share. */
#ifndef NV_CUDA_H
#define NV_CUDA_H

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nv_cuda {
    nv_device base; /* first: a pointer to one is a pointer to the other */
    void *stream;   /* cudaStream_t */
    int32_t ordinal, processors;
    void *scratch; /* grows, never shrinks: partial sums of one operation at a time */
    size_t scratch_bytes;
} nv_cuda;

static inline nv_cuda *nv_cuda_of(nv_device *dev) {
    return (nv_cuda *)(void *)dev;
}

/* At least `bytes` of the device's scratch, valid until the next call; on a 256-byte boundary. */
nabla_status nv_cuda_scratch(nv_cuda *d, size_t bytes, void **out, nv_error *err);

/* After a launch: cudaGetLastError as a sentence about `what`. */
nabla_status nv_cuda_launched(nv_error *err, const char *what);

#ifdef __cplusplus
}
#endif
#endif

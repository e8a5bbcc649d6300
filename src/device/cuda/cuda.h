/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA device from inside: what its C files and its kernels share. */
#ifndef NV_CUDA_H
#define NV_CUDA_H

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory that the device takes for itself as operations ask for it, on top of what its users reckon with: strips of
   gathered pixels (or partial sums, which are smaller) as scratch, and the workspace of products. */
enum { NV_CUDA_STRIP = 256 << 20, NV_CUDA_WORKSPACE = 32 << 20, NV_CUDA_OWN = NV_CUDA_STRIP + NV_CUDA_WORKSPACE };

typedef struct nv_cuda {
    nv_device base; /* first: a pointer to one is a pointer to the other */
    void *stream;   /* cudaStream_t */
    int32_t ordinal;
    void *scratch; /* grows, never shrinks: partial sums of one operation at a time */
    size_t scratch_bytes;
    struct nv_cuda_memory *memory;     /* memory.c: the pool, staging, what failed */
    struct nv_cuda_timer *timer;       /* timer.c: events at changes of phase */
    struct nv_cuda_products *products; /* products.c: cuBLASLt, its algorithms and workspace */
} nv_cuda;

static inline nv_cuda *nv_cuda_of(nv_device *dev) {
    return (nv_cuda *)(void *)dev;
}

/* At least `bytes` of the device's scratch, valid until the next call; on a 256-byte boundary. */
nabla_status nv_cuda_scratch(nv_cuda *d, size_t bytes, void **out, nv_error *err);

/* After a launch: cudaGetLastError as a sentence about `what`. */
nabla_status nv_cuda_launched(nv_error *err, const char *what);

/* What the runtime said about `doing`; error 0: NABLA_OK. */
nabla_status nv_cuda_check(const nv_cuda *d, int error, const char *doing, nv_error *err);

/* memory.c */
nabla_status nv_cuda_memory_open(nv_cuda *d, nv_error *err);
void nv_cuda_memory_close(nv_cuda *d);
nabla_status nv_cuda_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err);
nabla_status nv_cuda_take(nv_cuda *d, size_t bytes, void **out, nv_error *err); /* the same, not zeroed */
void nv_cuda_release(nv_device *dev, void *data);
void nv_cuda_zero(nv_device *dev, void *data, size_t bytes);
void nv_cuda_copy(nv_device *dev, void *dst, const void *src, size_t bytes);
void nv_cuda_upload(nv_device *dev, void *dst, const void *src, size_t bytes);
nabla_status nv_cuda_download(nv_device *dev, void *dst, const void *src, size_t bytes, nv_error *err);
nabla_status nv_cuda_host_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err);
void nv_cuda_host_release(nv_device *dev, void *data);
void nv_cuda_fetch(nv_device *dev, int32_t lane, void *dst, const void *src, size_t bytes);
void nv_cuda_await(nv_device *dev, int32_t lane);
void nv_cuda_fetched(nv_device *dev, int32_t lane);
void nv_cuda_stow(nv_device *dev, void *dst, const void *src, size_t bytes);
void nv_cuda_memory_left(nv_device *dev, nv_device_memory *out);
nabla_status nv_cuda_wait(nv_device *dev, nv_error *err);

/* timer.c */
nabla_status nv_cuda_timer_open(nv_cuda *d, nv_error *err);
void nv_cuda_timer_close(nv_cuda *d);
nv_phase nv_cuda_phase(nv_device *dev, nv_phase phase);
void nv_cuda_clock_reset(nv_device *dev);
void nv_cuda_clock_read(nv_device *dev, nv_clock *out);
void nv_cuda_count_flop(nv_cuda *d, double product_flop);

#ifdef __cplusplus
}
#endif
#endif

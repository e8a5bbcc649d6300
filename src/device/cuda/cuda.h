/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA device from inside: what its C files and its kernels share. */
#ifndef NV_CUDA_H
#define NV_CUDA_H

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory that the device takes for itself as operations ask for it, on top of what its users reckon with: the workspace
   of products; scratch, which is strips of gathered pixels (or partial sums, which are smaller); for a moment, where a
   trial of products that are added to something puts its sums. */
enum {
    NV_CUDA_WORKSPACE = 32 << 20,
    NV_CUDA_STRIP = 256 << 20,
    NV_CUDA_TRIAL = 256 << 20,
    NV_CUDA_OWN = NV_CUDA_WORKSPACE + NV_CUDA_STRIP + NV_CUDA_TRIAL
};

typedef struct nv_cuda {
    nv_device base; /* first: a pointer to one is a pointer to the other */
    void *stream;   /* cudaStream_t */
    int32_t ordinal;
    void *scratch; /* grows, never shrinks: partial sums of one operation at a time */
    size_t scratch_bytes;
    int32_t moves;                     /* how often memory of the device's own gave way to a larger piece */
    int32_t recording;                 /* record.c: what is queued now is being recorded */
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
void *nv_cuda_pool(const nv_cuda *d); /* cudaMemPool_t, of libnabla's context as well: each trims what both left */
nabla_status nv_cuda_allocate(nv_device *dev, size_t bytes, void **out, nv_error *err);
/* The same, not zeroed. Both are refused while the stream is being captured in a graph. */
nabla_status nv_cuda_take(nv_cuda *d, size_t bytes, void **out, nv_error *err);
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

/* Fails while work is being recorded; `what` it wanted: "taking memory". */
nabla_status nv_cuda_not_recording(const nv_cuda *d, const char *what, nv_error *err);

/* record.c */
nabla_status nv_cuda_record(nv_device *dev, nv_work work, void *user, const nv_clock *like, nv_recording **out,
                            nv_error *err);
nabla_status nv_cuda_replay(nv_device *dev, nv_recording *recording, nv_error *err);
int nv_cuda_replays(const nv_device *dev, const nv_recording *recording);
void nv_cuda_recording_release(nv_device *dev, nv_recording *recording);

/* timer.c */
nabla_status nv_cuda_timer_open(nv_cuda *d, nv_error *err);
void nv_cuda_timer_close(nv_cuda *d);
nv_phase nv_cuda_phase(nv_device *dev, nv_phase phase);
void nv_cuda_clock_reset(nv_device *dev);
void nv_cuda_clock_read(nv_device *dev, nv_clock *out);
void nv_cuda_count_flop(nv_cuda *d, double product_flop);
double nv_cuda_flop(const nv_cuda *d);
/* Until the next change of phase, time is shared out as `shares` says; it must live until the clock was read. */
void nv_cuda_shared_phase(nv_cuda *d, const nv_clock *shares);

#ifdef __cplusplus
}
#endif
#endif

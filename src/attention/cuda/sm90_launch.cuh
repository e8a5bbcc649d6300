/* SPDX-License-Identifier: Apache-2.0 */
/* What the launchers of the sm90 kernels share: tensor maps, the launch, and how results are stored. */
#ifndef NABLA_SM90_LAUNCH_CUH
#define NABLA_SM90_LAUNCH_CUH

#include "sm90.cuh"

#include <cuda_runtime.h>

/* One unit of one head. */
typedef struct row_task {
    int32_t first, count; /* rows */
    int32_t head, batch, head_in_batch;
} row_task;

/* Two neighbouring columns of one row. base: the row's element 0. beta 0: what was there is not read. */
template <typename T>
__device__ __forceinline__ void store_pair(const nabla_cuda_tensor &t, int64_t base, int column, int head_dim, float x,
                                           float y, float beta) {
    if (column >= head_dim) return;
    if (t.dtype == NABLA_FP32) {
        float *to = (float *)t.data + base + column;
        if (beta != 0) {
            x += beta * to[0];
            y += beta * to[1];
        }
        if ((uintptr_t)to % sizeof(float2) == 0) {
            *(float2 *)to = make_float2(x, y);
        } else {
            to[0] = x;
            to[1] = y;
        }
        return;
    }
    T *to = (T *)t.data + base + column;
    if (beta != 0) {
        x += beta * (float)to[0];
        y += beta * (float)to[1];
    }
    const uint32_t packed = pack<T>(x, y);
    if ((uintptr_t)to % sizeof packed == 0) {
        *(uint32_t *)to = packed;
    } else {
        ((uint16_t *)to)[0] = (uint16_t)packed;
        ((uint16_t *)to)[1] = (uint16_t)(packed >> 16);
    }
}

/* Strides that the copy engine steps by, in 16-bit numbers: whole 16 bytes, below 2^40 bytes, and not 0, which heads
   that share their keys have. */
static inline bool can_step(int64_t stride) {
    return stride % 8 == 0 && stride > 0 && stride < INT64_C(1) << 39;
}

/* Whether the copy engine takes a tensor. */
static inline bool can_map(const nabla_cuda_tensor *t, const nabla_cuda_plan *plan) {
    return t->dtype != NABLA_FP32 && (uintptr_t)t->data % 16 == 0 && can_step(t->row) &&
           (plan->heads == 1 || can_step(t->head)) && (plan->batch == 1 || can_step(t->batch));
}

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                              const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver's encoder, asked of the runtime, so that nothing here links to the driver. */
static inline encode_fn find_encoder(void) {
    static void *encode; /* contexts of several threads may look at once, and find the same */
    void *found = __atomic_load_n(&encode, __ATOMIC_RELAXED);
    cudaDriverEntryPointQueryResult result;
    if (found) return (encode_fn)found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result) ||
        result != cudaDriverEntryPointSuccess)
        return NULL;
    __atomic_store_n(&encode, found, __ATOMIC_RELAXED);
    return (encode_fn)found;
}

/* [B, S, H, D] in boxes of 64 rows x 64 columns; what lies outside reads as zero. */
static inline cudaError_t map_tensor(CUtensorMap *map, const nabla_cuda_tensor *t, const nabla_cuda_attention *a,
                                     int32_t tokens) {
    const encode_fn encode = find_encoder();
    const cuuint64_t row = (cuuint64_t)t->row * 2;
    const cuuint64_t size[] = {(cuuint64_t)a->head_dim, (cuuint64_t)tokens, (cuuint64_t)a->plan.heads,
                               (cuuint64_t)a->plan.batch};
    /* nothing steps along an axis of one, and the encoder still wants a stride that could */
    const cuuint64_t stride[] = {row, a->plan.heads > 1 ? (cuuint64_t)t->head * 2 : row,
                                 a->plan.batch > 1 ? (cuuint64_t)t->batch * 2 : row};
    const cuuint32_t box[] = {64, 64, 1, 1}, step[] = {1, 1, 1, 1};
    if (!encode) return cudaErrorNotSupported;
    const CUtensorMapDataType type =
        t->dtype == NABLA_FP16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    return encode(map, type, 4, t->data, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
               ? cudaErrorInvalidValue
               : cudaSuccess;
}

/* `each` thread blocks a multiprocessor, or one a job where those are fewer. */
template <typename ARGS>
static int launch_jobs(void (*kernel)(const ARGS), const ARGS &g, size_t shared, int64_t jobs_a_head, int32_t threads,
                       int32_t each) {
    const size_t bytes = shared + 1024; /* room to align */
    const int64_t jobs = jobs_a_head * g.a.plan.batch * g.a.plan.heads, most = (int64_t)g.a.processors * each;
    const cudaStream_t stream = (cudaStream_t)g.a.stream;
    /* numbers of jobs are int32, and each thread block draws one that is past the last */
    if (jobs > INT32_MAX - 2 * most) return cudaErrorInvalidConfiguration;
    cudaError_t e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (!e) e = cudaMemsetAsync(g.counter, 0, sizeof *g.counter, stream);
    if (e) return e;
    NABLA_LAUNCH(kernel, (unsigned)(jobs < most ? jobs : most), (unsigned)threads, bytes, stream)(g);
    return cudaGetLastError();
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A context of a GPU from inside, and what the C files of this folder share. Every function here is called with the
   context's GPU current (device.c sees to that), and but for those that wait only queues. */
#ifndef NABLA_CUDA_STATE_H
#define NABLA_CUDA_STATE_H

#include "cuda.h"
#include "device.h"

#include <cuda_runtime_api.h>

enum {
    NABLA_CUDA_IMPORTS = 16, /* from GPU memory that are watched at a time */
    NABLA_CUDA_RECORD = 4    /* int32 in an error record: row, entry, value, and one unused */
};

/* An import from GPU memory, whose first bad entry the kernel leaves in the context's `errors`. Its geometry is kept
   here, for the plan may be gone when the error is read. */
typedef struct nabla_cuda_import {
    bool used;    /* the record holds something; stays, since a graph may run the import again */
    bool pending; /* not looked at since it was queued */
    bool bitmap;  /* of bytes, not of lists */
    int64_t heads, nq, nk;
} nabla_cuda_import;

typedef struct nabla_cuda_state {
    cudaStream_t stream;
    bool own_stream;
    cudaMemPool_t pool;
    bool own_pool;
    int32_t capability; /* of the kernels in use: 80 or 90 */
    int32_t processors;
    size_t limit, in_use; /* bytes; limit 0: none */
    void *scratch;
    size_t scratch_size;
    int32_t *errors; /* device: [NABLA_CUDA_IMPORTS][NABLA_CUDA_RECORD] */
    nabla_cuda_import imports[NABLA_CUDA_IMPORTS];
} nabla_cuda_state;

/* A plan's memory on the GPU: one allocation that `view` points into. */
typedef struct nabla_cuda_bits {
    nabla_cuda_plan view; /* but for `sets`, which is the plan's */
    char *memory;
    size_t bytes;
    float *row_mass; /* [B * H][nq]; holds something where `scored` */
    bool scored;     /* built by a policy that looks at tokens */
    int32_t *document_of, *document_first;
} nabla_cuda_bits;

/* Turns what a runtime call or a launcher returned into a status; `doing`: "building a plan". */
nabla_status nabla_cuda_check(nabla_context *ctx, int error, const char *doing);
/* Waits for the stream. An error where it is being captured. */
nabla_status nabla_cuda_wait(nabla_context *ctx, const char *doing);

/* memory.c: from the context's pool, counted against its limit, on a 256-byte boundary, in the order of the stream. */
nabla_status nabla_cuda_take(nabla_context *ctx, size_t bytes, void **out);
void nabla_cuda_give(nabla_context *ctx, void *memory, size_t bytes);
/* At least `bytes` of scratch; what earlier calls laid out there is done with once this one's work runs. */
nabla_status nabla_cuda_scratch(nabla_context *ctx, size_t bytes, void **out);
nabla_status nabla_cuda_trim(nabla_context *ctx);
nabla_status nabla_cuda_copy(nabla_context *ctx, void *to, const void *from, size_t bytes); /* either way; waits */
/* Whether a pointer is the GPU's memory; `name` is for the message where it is another GPU's. */
nabla_status nabla_cuda_reaches(nabla_context *ctx, const char *name, const void *data, bool *out);

/* plan.c: a plan as kernels see it; of one that is only measured the counts alone. */
nabla_cuda_plan nabla_cuda_view(const nabla_plan *plan);
nabla_cuda_tensor nabla_cuda_tensor_of(const nabla_tensor *t); /* [B, S, H, D]; t may be NULL */

/* imports.c: the records of queued imports, and their bad entries, after a wait. */
nabla_status nabla_cuda_imports_open(nabla_context *ctx);
void nabla_cuda_imports_close(nabla_context *ctx);
nabla_status nabla_cuda_check_imports(nabla_context *ctx);

/* Entries of the device table (see device.h). */
nabla_status nabla_cuda_allocate(nabla_context *ctx, size_t bytes, void **out);
void nabla_cuda_release(nabla_context *ctx, void *memory);
nabla_status nabla_cuda_check_data(nabla_context *ctx, const char *name, const void *data);
nabla_status nabla_cuda_order_open(nabla_context *ctx, nabla_order *order);
void nabla_cuda_order_close(nabla_order *order);
nabla_status nabla_cuda_run_permute(nabla_context *ctx, const nabla_permutation *p);
nabla_status nabla_cuda_run_merge(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                                  const nabla_tensor *o_b, const nabla_tensor *lse_b);
nabla_status nabla_cuda_plan_bytes(nabla_context *ctx, const nabla_plan *plan, size_t host, size_t *bytes);
nabla_status nabla_cuda_plan_open(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan);
void nabla_cuda_plan_close(nabla_plan *plan);
nabla_status nabla_cuda_build_memory(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, size_t *bytes);
nabla_status nabla_cuda_run_build(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy,
                                  const nabla_scored *in);
nabla_status nabla_cuda_lists_out(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices);
nabla_status nabla_cuda_lists_in(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices);
nabla_status nabla_cuda_bitmap_out(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes);
nabla_status nabla_cuda_bitmap_in(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes);
nabla_status nabla_cuda_count_sets(nabla_context *ctx, const nabla_plan *plan, nabla_kept *kept, double *kept_mass);
nabla_status nabla_cuda_count_pairs(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs);
nabla_status nabla_cuda_forward_memory(const nabla_call *call, size_t *bytes);
nabla_status nabla_cuda_backward_memory(const nabla_call *call, size_t *bytes);
nabla_status nabla_cuda_forward(const nabla_call *call);
nabla_status nabla_cuda_backward(const nabla_call *call);

#endif

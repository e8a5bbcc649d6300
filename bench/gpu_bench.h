/* SPDX-License-Identifier: Apache-2.0 */
/* What the measurements of the GPU benchmark share: gpu_attention.c runs them, gpu_measures.c holds them. Functions
   return a status; gpu_why() tells the reason of the last failure. */
#ifndef NABLA_BENCH_GPU_BENCH_H
#define NABLA_BENCH_GPU_BENCH_H

#include "nabla/nabla.h"

#include <cuda_runtime_api.h>

enum { GPU_MAX_REPEATS = 100, GPU_MAX_DIMS = 8 };
enum { GPU_Q, GPU_K, GPU_V, GPU_O, GPU_D_O, GPU_D_Q, GPU_D_K, GPU_D_V, GPU_TENSORS };

typedef struct gpu_options {
    nabla_grid grid;
    int64_t heads, dense_heads;
    int64_t dims[GPU_MAX_DIMS];
    int32_t dim_count, repeats;
    nabla_dtype dtype;
    const char *level; /* NULL: the best */
    const char *only;  /* NULL: all groups; else the names of those wanted, with commas */
    const char *dump;  /* NULL, or a folder for the lists that forward uses */
    double density;    /* of random lists, and of what nabla is made to keep where a share is wanted */
    float thr;         /* of NABLA u STA */
    unsigned limit;    /* seconds a group may take */
} gpu_options;

/* One context on one stream, and the tensors of one head dim. */
typedef struct gpu_bench {
    const gpu_options *options;
    int64_t head_dim, tokens, blocks;
    cudaStream_t stream;
    cudaEvent_t events[2 * GPU_MAX_REPEATS];
    nabla_context *ctx;
    nabla_order *order;
    int32_t *raster; /* on the GPU */
    nabla_tensor t[GPU_TENSORS], lse;
    nabla_plan *plan;
    nabla_plan_stats stats; /* of plan, as it was last filled */
    const char *inputs;     /* "noise" or "waves": what Q and K hold */
    char error[256];
} gpu_bench;

/* Opens a context and allocates the first `tensors` of the list above, with the LSE where O is among them; V and dO are
   noise, Q and K are left to gpu_fill(). Close what was opened, also after a failure. */
nabla_status gpu_open(const gpu_options *options, int64_t head_dim, int tensors, gpu_bench *b);
void gpu_close(gpu_bench *b);
const char *gpu_why(const gpu_bench *b);
nabla_status gpu_cuda(gpu_bench *b, int error); /* a cudaError_t */

/* Fills Q and K: "noise" or "waves". */
nabla_status gpu_fill(gpu_bench *b, const char *inputs);
/* The first `heads` heads of a tensor. */
nabla_tensor gpu_heads(const gpu_bench *b, int tensor, int64_t heads);

/* Makes b->plan for so many heads, empty, in place of what it was. */
nabla_status gpu_make_plan(gpu_bench *b, int64_t heads);
nabla_plan_desc gpu_plan_desc(const gpu_bench *b, int64_t heads);
/* Fills it by a policy over Q and K, or with random lists of options->density, the same in every run; takes stats. */
nabla_status gpu_build(gpu_bench *b, const nabla_policy *policy);
nabla_status gpu_keep_random(gpu_bench *b);
/* Finds the thr that makes nabla keep options->density of the blocks, and leaves the plan so. */
nabla_status gpu_find_thr(gpu_bench *b, nabla_policy *nabla);

/* Milliseconds. Median, least and most of calls that were queued one after the other, so that the host is hidden; lone:
   the median of calls that each found the GPU idle and began when the host could. */
typedef struct gpu_times {
    double median, least, most, lone;
} gpu_times;

typedef nabla_status gpu_call(gpu_bench *b, const void *arg);
nabla_status gpu_time(gpu_bench *b, gpu_call *call, const void *arg, gpu_times *out);

/* A line of the CSV. Where a number is NaN its field is empty. */
typedef struct gpu_row {
    const char *measure, *lists, *inputs, *level;
    int64_t head_dim, heads;
    double density, kept_mass;
    gpu_times times;
    double operations; /* a call's, for TFLOP/s */
    double extra_mb;
    char note[320];
} gpu_row;

void gpu_print_header(void);
gpu_row gpu_row_of(const gpu_bench *b, const char *measure, const char *lists);
void gpu_print(const gpu_options *options, const gpu_row *row);
/* A row with a reason in place of numbers. */
void gpu_print_failure(gpu_bench *b, const char *measure, const char *lists);

/* Groups of measurements: each prints its rows, goes on where one fails, and returns how many did. */
typedef int gpu_group(const gpu_options *options, int64_t head_dim);
gpu_group gpu_first_call, gpu_masks, gpu_forward, gpu_backward, gpu_together;

#endif

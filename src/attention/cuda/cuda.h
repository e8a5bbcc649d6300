/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What C code and CUDA kernels say to each other. Launchers queue work on a stream, wait for nothing, allocate nothing
 * and return a cudaError_t as an int. All pointers are device memory unless said otherwise.
 *
 * A unit is up to 64 rows of one block: the work of one warpgroup. A pair is two units that share a thread block, and
 * with it every key block that both keep (see plan.h). Blocks of at most 64 tokens are one unit each.
 */
#ifndef NABLA_CUDA_H
#define NABLA_CUDA_H

#include "nabla/nabla.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    NABLA_CUDA_ROWS = 64, /* rows of a unit */
    NABLA_CUDA_PAIRINGS = 2,
    NABLA_CUDA_LONE = 4,          /* a flag beside a pairing: neighbours share next to nothing */
    NABLA_CUDA_WORKSPACE = 256,   /* bytes of an attention launcher's workspace: counters that jobs are drawn from */
    NABLA_CUDA_MOST_HEADS = 65535 /* B * H of one attention launch: some kernels have heads along the grid's y */
};

typedef struct CUstream_st *nabla_cuda_stream; /* a cudaStream_t, without CUDA's headers */

typedef struct nabla_cuda_unit {
    int32_t block; /* -1: no unit (the second of the last pair) */
    int32_t first, count;
} nabla_cuda_unit;

/* One side of a plan: queries or keys. */
typedef struct nabla_cuda_side {
    int32_t tokens, blocks;
    int32_t words; /* 64-bit words in a row of bits over these blocks */
    int32_t unit_count, pair_count;
    const int32_t *offsets;       /* [blocks + 1]: first tokens of the blocks */
    const nabla_cuda_unit *units; /* [unit_count], ascending */
    /* [NABLA_CUDA_PAIRINGS][pair_count][2]: pairing 0 takes neighbours in order (along the width of the grid), pairing
       1 the same place in neighbouring frames; both are one pairing where there is no grid. */
    const nabla_cuda_unit *pairs;
    /* [sets]: which of them has the most blocks in common, and NABLA_CUDA_LONE where that is little; counted when the
       plan is finished (of keys: only with columns) */
    int32_t *pairing;
} nabla_cuda_side;

/* A plan as kernels see it; passed by value. */
typedef struct nabla_cuda_plan {
    int32_t batch, heads;
    int32_t sets; /* 1: all heads share set 0; else batch * heads, one each */
    nabla_cuda_side q, k;
    uint64_t *rows;    /* [sets][q.blocks][k.words] */
    uint64_t *columns; /* [sets][k.blocks][q.words], the transpose; NULL without backward */
} nabla_cuda_plan;

/* [B, S, H, D]; strides in elements, D contiguous. data NULL: left out. */
typedef struct nabla_cuda_tensor {
    void *data;
    nabla_dtype dtype;
    int64_t batch, row, head; /* strides */
} nabla_cuda_tensor;

/* ---- attention: forward and backward of one plan. One launcher a level. Every one is deterministic. */

typedef struct nabla_cuda_attention {
    nabla_cuda_plan plan;
    nabla_dtype dtype; /* of q, k, v: fp32, bf16 or fp16 */
    int32_t head_dim;  /* 16 to 256 in steps of 8 */
    float scale, alpha, beta;
    nabla_cuda_tensor q, k, v, o;
    float *lse;                           /* [B, H, Sq] contiguous; written forward (may be NULL), read backward */
    nabla_cuda_tensor d_o, d_q, d_k, d_v; /* backward; gradients are fp32 or dtype */
    /* Backward: [2][B * H][row_stats_stride]: first lse * log2(e) (+inf where a row has nothing, so that exp2 gives 0),
       then delta = alpha * sum_d dO * O. Filled by nabla_cuda_delta(), past the tokens with +inf and 0. */
    float *row_stats;
    int64_t row_stats_stride; /* q tokens rounded up to a multiple of 64, plus 64 */
    void *workspace;          /* NABLA_CUDA_WORKSPACE bytes, 256-byte aligned */
    int32_t processors;       /* multiprocessors of the device */
    nabla_cuda_stream stream;
} nabla_cuda_attention;

/* Fills row_stats from o, d_o and lse. */
int nabla_cuda_delta(const nabla_cuda_attention *a);

/* sm80: any dtype, any head dim. */
int nabla_cuda_forward_sm80(const nabla_cuda_attention *a);
int nabla_cuda_backward_sm80(const nabla_cuda_attention *a);

/* sm90: fp16 and bf16, head dims up to 128, q, k, v, d_o of one dtype, their rows on 16-byte boundaries and none shared
   (no stride of 0). *_takes() tells whether a call is one that it can do; others go to sm80. */
bool nabla_cuda_forward_sm90_takes(const nabla_cuda_attention *a);
bool nabla_cuda_backward_sm90_takes(const nabla_cuda_attention *a);
int nabla_cuda_forward_sm90(const nabla_cuda_attention *a);
int nabla_cuda_backward_sm90(const nabla_cuda_attention *a);

/* ---- building a plan */

typedef struct nabla_cuda_build {
    nabla_cuda_plan plan;
    bool dense, has_nabla, has_sta;
    float thr;
    int32_t sta[3];                /* windows in tiles: frames, height, width */
    int32_t tiles[3];              /* tiles of the grid (equal for queries and keys): frames, height, width */
    int32_t documents;             /* 0: all tokens are one document */
    const int32_t *document_of;    /* [q.blocks] */
    const int32_t *document_first; /* [documents + 1]: first key block of each */
    int32_t head_dim;              /* of the scored policies */
    float scale;
    float *q_mean, *k_mean; /* [B * H][blocks][D] fp32, on 16 bytes */
    float *row_mass;        /* [B * H][q.blocks]: kept block probability of each row; written where rows are scored */
    void *workspace;        /* nabla_cuda_build_workspace() bytes, 256-byte aligned */
    int32_t processors;
    nabla_cuda_stream stream;
} nabla_cuda_build;

/* Means of x's blocks (keys: those of plan.k, else of plan.q) to mean[B * H][blocks][D], in fp32. */
int nabla_cuda_means(const nabla_cuda_plan *plan, bool keys, const nabla_cuda_tensor *x, int32_t head_dim, float *mean,
                     nabla_cuda_stream stream);
size_t nabla_cuda_build_workspace(const nabla_cuda_build *b);
/* Fills rows: scores q_mean with k_mean where a policy needs it, the rest from the geometry alone (set 0 only where
   plan.sets is 1). Does not finish the plan. */
int nabla_cuda_build_rows(const nabla_cuda_build *b);
/* After any change of rows: columns, and the pairings. */
int nabla_cuda_finish(const nabla_cuda_plan *plan, nabla_cuda_stream stream);

/* ---- plans in and out, and counts */

/* num [B, H, nq], indices [B, H, nq, nk] int32, either may be NULL; ascending, -1 after the last. */
int nabla_cuda_export_lists(const nabla_cuda_plan *plan, int32_t *num, int32_t *indices, nabla_cuda_stream stream);
/* Fills rows of all sets, of which there must be B * H. The first bad entry's place (see nabla_plan_import_lists) is
   left in error[3] = {row, entry, value}, least row first; row is INT32_MAX where all is well. Bad entries are left out
   of the rows. */
int nabla_cuda_import_lists(const nabla_cuda_plan *plan, const int32_t *num, const int32_t *indices, int32_t *error,
                            nabla_cuda_stream stream);
int nabla_cuda_export_bitmap(const nabla_cuda_plan *plan, uint8_t *bytes, nabla_cuda_stream stream);
/* error[3] = {row, key block, value} of the first byte above 1. */
int nabla_cuda_import_bitmap(const nabla_cuda_plan *plan, const uint8_t *bytes, int32_t *error,
                             nabla_cuda_stream stream);
/* blocks[i]: kept blocks (NULL: not asked for); pairs[i]: kept token pairs; of the first `count` sets, or of heads that
   share one. */
int nabla_cuda_count(const nabla_cuda_plan *plan, int64_t count, int64_t *blocks, int64_t *pairs,
                     nabla_cuda_stream stream);

/* ---- tokens */

/* dst row i of each batch = src row raster[i] (gather) or dst row raster[i] = src row i. bytes: of one token. */
int nabla_cuda_permute(const void *src, int64_t src_batch, int64_t src_row, void *dst, int64_t dst_batch,
                       int64_t dst_row, int64_t batch, int64_t tokens, int64_t bytes, const int32_t *raster,
                       bool gather, nabla_cuda_stream stream); /* strides in bytes */
/* See nabla_attention_merge. */
typedef struct nabla_cuda_merge_args {
    int64_t batch, tokens, heads;
    int32_t head_dim;
    nabla_cuda_tensor o_a, o_b;
    float *lse_a;
    const float *lse_b;
    int64_t lse_a_stride[3], lse_b_stride[3]; /* batch, head, token */
} nabla_cuda_merge_args;
int nabla_cuda_merge(const nabla_cuda_merge_args *m, nabla_cuda_stream stream);

#ifdef __cplusplus
}
#endif
#endif

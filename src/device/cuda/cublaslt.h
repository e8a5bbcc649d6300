/* SPDX-License-Identifier: Apache-2.0 */
/* The part of cuBLASLt's API that the products use, of versions 12 and 13, declared here since the library is found at
   run time: neither a build nor a machine without GPU needs it. Values and layouts are those of NVIDIA's cublasLt.h. */
#ifndef NV_CUBLASLT_H
#define NV_CUBLASLT_H

#include "tensor/error.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *nv_lt_handle;
typedef void *nv_lt_desc;       /* of an operation, */
typedef void *nv_lt_layout;     /* a matrix, */
typedef void *nv_lt_preference; /* a search */

typedef struct nv_lt_algo {
    uint64_t data[8];
} nv_lt_algo;

typedef struct nv_lt_heuristic {
    nv_lt_algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} nv_lt_heuristic;

enum {
    NV_LT_FP32 = 0,
    NV_LT_BF16 = 14,
    NV_LT_COMPUTE_FP32 = 68, /* fp32 throughout for fp32 factors: no TF32 */
    NV_LT_TRANSPOSE_A = 3,
    NV_LT_TRANSPOSE_B = 4,
    NV_LT_EPILOGUE = 7,
    NV_LT_BIAS_POINTER = 8,
    NV_LT_EPILOGUE_PLAIN = 1,
    NV_LT_EPILOGUE_BIAS = 4,
    NV_LT_EPILOGUE_GELU = 32, /* its tanh form */
    NV_LT_MOST_WORKSPACE = 1,
    NV_LT_REDUCTIONS = 3,
    NV_LT_ALIGNMENT_A = 5, /* then B, C, D */
    NV_LT_REDUCE_NONE = 0,
    NV_LT_REDUCE_IN_FP32 = 2, /* partial products in fp32, added up in order by a second kernel */
    NV_LT_NOT_SUPPORTED = 15,
    NV_LT_CONFIG = 9 /* what an algorithm is: its number, tile, splits of K, reduction, swizzle, option and stages, 32
                        bits each, then inner shape and cluster shape, 16 bits each; the attributes count from 0 */
};

/* Column-major: D = epilogue(alpha op(A) op(B) + beta C). Functions return 0 or an error. */
typedef struct nv_cublaslt {
    void *library;
    size_t (*version)(void);
    int (*create)(nv_lt_handle *out);
    int (*destroy)(nv_lt_handle handle);
    int (*desc_create)(nv_lt_desc *out, int compute, int scale);
    int (*desc_destroy)(nv_lt_desc desc);
    int (*desc_set)(nv_lt_desc desc, int attribute, const void *value, size_t size);
    int (*layout_create)(nv_lt_layout *out, int type, uint64_t rows, uint64_t cols, int64_t ld);
    int (*layout_destroy)(nv_lt_layout layout);
    int (*preference_create)(nv_lt_preference *out);
    int (*preference_destroy)(nv_lt_preference preference);
    int (*preference_set)(nv_lt_preference preference, int attribute, const void *value, size_t size);
    int (*heuristic)(nv_lt_handle handle, nv_lt_desc desc, nv_lt_layout a, nv_lt_layout b, nv_lt_layout c,
                     nv_lt_layout d, nv_lt_preference preference, int asked, nv_lt_heuristic *out, int *count);
    int (*config_get)(const nv_lt_algo *algo, int attribute, void *value, size_t size, size_t *written);
    int (*matmul)(nv_lt_handle handle, nv_lt_desc desc, const void *alpha, const void *a, nv_lt_layout a_layout,
                  const void *b, nv_lt_layout b_layout, const void *beta, const void *c, nv_lt_layout c_layout, void *d,
                  nv_lt_layout d_layout, const nv_lt_algo *algo, void *workspace, size_t workspace_bytes, void *stream);
} nv_cublaslt;

/* NABLA_UNSUPPORTED, with the names that were tried, where the library is not to be found. */
nabla_status nv_cublaslt_open(nv_cublaslt *lt, nv_error *err);
void nv_cublaslt_close(nv_cublaslt *lt);

#ifdef __cplusplus
}
#endif
#endif

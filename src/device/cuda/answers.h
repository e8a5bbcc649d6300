/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's products from inside: what cuBLASLt is asked, and what it is to do. An answer is found among those kept
   (answers.c), else by a trial of what it advises (trial.c) or told by a text from another process (choices.c). */
#ifndef NV_CUDA_ANSWERS_H
#define NV_CUDA_ANSWERS_H

#include "device/cuda/cublaslt.h"
#include "device/cuda/products.h"

enum { NV_CUDA_ADVISED = 8 /* algorithms that are asked for, the best first as cuBLASLt thinks */ };

/* Column-major D [m, n] = op(A) op(B): what decides over an algorithm. Compared as bytes. */
typedef struct nv_cuda_question {
    int64_t m, n, k, a_ld, b_ld, d_ld;
    int32_t a_turned, b_turned; /* op is the transpose */
    int32_t in, out;            /* cuBLASLt's types */
    int32_t epilogue, add;
    uint32_t alignment[3]; /* of A, B, D: bytes */
    uint32_t unused;
} nv_cuda_question;

typedef struct nv_cuda_answer {
    nv_cuda_question q;
    nv_lt_desc desc;
    nv_lt_layout a, b, d;
    nv_lt_algo algo;
    int32_t place; /* of algo in the list of advice */
    int32_t tried; /* by time, here or where the run began: no other process would surely find the same */
} nv_cuda_answer;

/* A product's matrices. */
typedef struct nv_cuda_operands {
    const void *a, *b;
    void *d;
} nv_cuda_operands;

struct nv_cuda_products {
    nv_cublaslt lt;
    nv_lt_handle handle;
    nv_lt_preference preference;
    void *workspace; /* NV_CUDA_WORKSPACE bytes once an algorithm wants some; then stays, for graphs that use it */
    void *bias;      /* one bias in bf16, as is the workspace but for very wide layers */
    size_t bias_bytes;
    nv_cuda_answer **answers;
    int32_t count, room, last;         /* last: the answer that was used last, where the next search begins */
    void *events[2 * NV_CUDA_ADVISED]; /* trial.c: cudaEvent_t before and after each algorithm; made when needed */
    char name[64];
};

/* The answer that is kept, or NULL. */
nv_cuda_answer *nv_cuda_answer_find(struct nv_cuda_products *p, const nv_cuda_question *q);
/* A new one that is not kept yet, and up to *count algorithms that cuBLASLt advises for it, of which the first is
   taken; *count becomes how many there are. */
nabla_status nv_cuda_answer_open(nv_cuda *d, const nv_cuda_question *q, nv_lt_heuristic *advice, int *count,
                                 nv_cuda_answer **out, nv_error *err);
void nv_cuda_answer_take(nv_cuda_answer *a, const nv_lt_heuristic *advice, int32_t place);
/* The products' own from then on; closed where it fails. */
nabla_status nv_cuda_answer_keep(struct nv_cuda_products *p, nv_cuda_answer *a, nv_error *err);
void nv_cuda_answer_close(struct nv_cuda_products *p, nv_cuda_answer *a);

/* D = or += as the answer's algorithm does it; C is D's old content, or D itself. cuBLASLt's error. */
int nv_cuda_answer_run(nv_cuda *d, const nv_cuda_answer *a, const nv_lt_algo *algo, const nv_cuda_operands *o,
                       const void *c);

/* trial.c */
/* Whether a trial is worth its time and has room. */
int nv_cuda_worth_trying(const nv_cuda_question *q);
/* Times the algorithms and takes one. Waits; D is written, or with `add` left alone. */
nabla_status nv_cuda_try(nv_cuda *d, nv_cuda_answer *a, const nv_lt_heuristic *advice, int count,
                         const nv_cuda_operands *o, nv_error *err);
void nv_cuda_trial_close(struct nv_cuda_products *p);

#endif

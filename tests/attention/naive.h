/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over a mask written straight from its definition, once in fp64 (the oracle) and once in the precision under
   test (the plain implementation that errors are measured against). Shares nothing with the library. */
#ifndef NAIVE_H
#define NAIVE_H

#include "nabla/nabla.h"

#include <stdbool.h>
#include <stdint.h>

/* Contiguous [B, S, H, D] floats that the dtype under test holds exactly. */
typedef struct naive_problem {
    int64_t batch, heads, q_tokens, k_tokens, head_dim;
    const float *q, *k, *v, *d_o;
    const float *o_before; /* what beta multiplies; may be NULL where beta is 0 */
    float scale, alpha, beta;
    const uint8_t *kept; /* [B, H, nq, nk] */
    int64_t nq, nk;
    const int32_t *q_block, *k_block; /* the block of each token */
    nabla_dtype operands;             /* of matrix products, to which computed ones are rounded */
    nabla_dtype o_dtype, grad_dtype;  /* of results */
} naive_problem;

typedef struct naive_result {
    double *o, *lse, *dq, *dk, *dv; /* lse [B, H, Sq]; the others as the tensors */
} naive_result;

void naive_fp64(const naive_problem *p, naive_result *r);
void naive_plain(const naive_problem *p, naive_result *r);

/* The nearest value of that dtype, even on ties. */
float naive_round(float x, nabla_dtype dtype);

/* fp16 as its bits, exact for a rounded x. */
uint16_t naive_fp16_bits(float x);
float naive_fp16_value(uint16_t bits);

#endif

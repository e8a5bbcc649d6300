/* SPDX-License-Identifier: Apache-2.0 */
/* What the two forward kernels of sm90 share. */
#ifndef NABLA_SM90_FORWARD_CUH
#define NABLA_SM90_FORWARD_CUH

#include "sm90_launch.cuh"

typedef struct forward_args {
    CUtensorMap q, k, v;
    nabla_cuda_attention a;
    int32_t *counter; /* jobs are drawn from it */
} forward_args;

/* Heads that are marked NABLA_CUDA_LONE, or all where they are of 64 numbers at most. */
int nabla_cuda_forward_lone(const forward_args &g);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What build.cu, which joins a policy's terms, calls of score.cu. */
#ifndef NABLA_CUDA_BUILD_CUH
#define NABLA_CUDA_BUILD_CUH

#include "device.cuh"

/* Adds to every row (or, where no other term has been there, writes) the blocks that hold the top thr of its mass, and
   fills row_mass. b->has_nabla; sets is B * H. */
int nabla_cuda_score(const nabla_cuda_build *b);
size_t nabla_cuda_score_workspace(const nabla_cuda_build *b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda.h"

extern "C" size_t nabla_cuda_attention_workspace(const nabla_cuda_attention *a, bool backward) {
    (void)a;
    (void)backward;
    return 256; /* the counters that jobs are drawn from */
}

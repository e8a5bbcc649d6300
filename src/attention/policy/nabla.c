/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NABLA, section 3 of arXiv 2507.13546; `nablaT_v2` of gen-ai-team/Wan2.1-NABLA.
 *
 * A row of the reduced map A = softmax(mean(Q) mean(K)^T / sqrt(D)) says how much probability each key block holds for
 * one query block. Sorted ascending with inclusive cumulative sum c, a block is kept where c >= 1 - thr: the smallest
 * set of the largest blocks that holds `thr` of the mass, the block that crosses the line included. No sort is needed
 * for that (select.c).
 */
#include "policy.h"

double nabla_policy_keep_mass(const nabla_kernels *kernels, const nabla_policy *policy, const float *probs, int64_t n,
                              uint64_t *bits) {
    return kernels->select_row(probs, (int32_t)n, policy->thr, bits);
}

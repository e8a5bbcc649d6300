/* SPDX-License-Identifier: Apache-2.0 */
/* What policies are made of. A policy's own file says which blocks one row keeps; cpu/build.c walks the rows. */
#ifndef NABLA_POLICY_H
#define NABLA_POLICY_H

#include "context.h"
#include "plan.h"

/* policy.c: refuses values that the grammar could not have given. */
nabla_status nabla_check_policy(nabla_context *ctx, const nabla_policy *policy);

/* policy/nabla.c: from the row's probabilities, overwrites bits; returns the mass they hold. */
double nabla_policy_keep_mass(const nabla_kernels *kernels, const nabla_policy *policy, const float *probs, int64_t n,
                              uint64_t *bits);

/* policy/sta.c: adds the window around q_block to bits. */
void nabla_policy_keep_window(const nabla_policy *policy, nabla_tiles q_tiles, int64_t q_block, uint64_t *bits);

#endif

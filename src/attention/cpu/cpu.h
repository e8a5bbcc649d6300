/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU's entries of the device table (see device.h), and what its files share. */
#ifndef NABLA_CPU_H
#define NABLA_CPU_H

#include "device.h"

nabla_status nabla_cpu_permute(nabla_context *ctx, const nabla_permutation *p);
nabla_status nabla_cpu_merge(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                             const nabla_tensor *o_b, const nabla_tensor *lse_b);
nabla_status nabla_cpu_plan_bytes(nabla_context *ctx, const nabla_plan *plan, size_t host, size_t *bytes);
nabla_status nabla_cpu_plan_open(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan);
void nabla_cpu_plan_close(nabla_plan *plan);
nabla_status nabla_cpu_build_memory(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, size_t *bytes);
nabla_status nabla_cpu_build(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy, const nabla_scored *in);
nabla_status nabla_cpu_export_lists(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices);
nabla_status nabla_cpu_import_lists(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices);
nabla_status nabla_cpu_export_bitmap(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes);
nabla_status nabla_cpu_import_bitmap(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes);
nabla_status nabla_cpu_count(nabla_context *ctx, const nabla_plan *plan, nabla_kept *kept, double *kept_mass);
nabla_status nabla_cpu_count_pairs(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs);
nabla_status nabla_cpu_forward_memory(const nabla_call *call, size_t *bytes);
nabla_status nabla_cpu_backward_memory(const nabla_call *call, size_t *bytes);
nabla_status nabla_cpu_forward(const nabla_call *call);
nabla_status nabla_cpu_backward(const nabla_call *call);

/* Says how many sets are in use: B * H (each head its own) or 1 (all heads share it). */
void nabla_cpu_use_sets(nabla_plan *plan, bool shared);
/* Makes the columns from the rows; every change of rows ends with it. */
void nabla_cpu_finish(nabla_context *ctx, nabla_plan *plan);

#endif

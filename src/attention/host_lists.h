/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of bits in the processor's memory as lists and bytes, and back; a GPU's plan passes through here where the
   caller's lists are on the host. rows: [plan->sets][nq][k_words]; the plan's own arrays of bits are not looked at. */
#ifndef NABLA_HOST_LISTS_H
#define NABLA_HOST_LISTS_H

#include "plan.h"

void nabla_rows_to_lists(const nabla_plan *plan, const uint64_t *rows, int32_t threads, int32_t *num, int32_t *indices);
void nabla_rows_to_bytes(const nabla_plan *plan, const uint64_t *rows, int32_t threads, uint8_t *bytes);

/* Refuses lists that are not sets of key blocks; seen: k_words words of room. */
nabla_status nabla_check_lists(nabla_context *ctx, const nabla_plan *plan, const int32_t *num, const int32_t *indices,
                               uint64_t *seen);
nabla_status nabla_check_bytes(nabla_context *ctx, const nabla_plan *plan, const uint8_t *bytes);
/* Checked lists or bytes to rows of B * H sets. */
void nabla_lists_to_rows(const nabla_plan *plan, const int32_t *num, const int32_t *indices, uint64_t *rows);
void nabla_bytes_to_rows(const nabla_plan *plan, const uint8_t *bytes, int32_t threads, uint64_t *rows);

#endif

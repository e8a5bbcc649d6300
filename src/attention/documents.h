/* SPDX-License-Identifier: Apache-2.0 */
/* Packed samples that must not see each other. A document begins at a tile's edge, so that no block holds two. */
#ifndef NABLA_DOCUMENTS_H
#define NABLA_DOCUMENTS_H

#include "context.h"
#include "plan.h"

nabla_status nabla_check_documents(nabla_context *ctx, const nabla_plan_desc *desc);

/* Which document each query block belongs to, and the first key block of each. */
void nabla_fill_documents(const nabla_plan_desc *desc, nabla_plan *plan);

#endif

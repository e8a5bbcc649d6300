/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of plans share: a context, and plans described in a line. */
#ifndef PLAN_FIXTURE_H
#define PLAN_FIXTURE_H

#include "check.h"

#include "nabla/nabla.h"

#include <stdlib.h>

static nabla_context *ctx;

static inline int setup(void **state) {
    (void)state;
    return nabla_context_create(NULL, &ctx, NULL, 0) != NABLA_OK;
}

static inline int teardown(void **state) {
    (void)state;
    nabla_context_destroy(ctx);
    return 0;
}

#define ok(call) assert_int_equal(call, NABLA_OK)

static inline nabla_order *make_order(nabla_grid grid) {
    nabla_order *order;
    ok(nabla_order_create(ctx, &grid, &order));
    return order;
}

static inline nabla_plan_desc describe(int64_t batch, int64_t heads, const nabla_order *order) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = batch;
    desc.heads = heads;
    desc.q_order = desc.k_order = order;
    return desc;
}

static inline nabla_policy parse(const char *text) {
    nabla_policy policy;
    ok(nabla_policy_parse(ctx, text, &policy));
    return policy;
}

/* A plan's bitmap, [B, H, nq, nk]. */
static inline uint8_t *bitmap_of(const nabla_plan *plan, int64_t heads, nabla_plan_stats *stats) {
    *stats = (nabla_plan_stats){.size = sizeof *stats};
    ok(nabla_plan_get_stats(ctx, plan, stats));
    uint8_t *bytes = malloc((size_t)(heads * stats->q_blocks * stats->k_blocks));
    ok(nabla_plan_export_bitmap(ctx, plan, bytes));
    return bytes;
}

#endif

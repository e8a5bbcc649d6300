/* SPDX-License-Identifier: Apache-2.0 */
/* A plan with a ragged end on both sides, and lists for it: what the tests of imports and exports share. */
#ifndef LISTED_PLAN_H
#define LISTED_PLAN_H

#include "check.h"

#include "nabla/nabla.h"

#include <stdlib.h>

enum { NQ = 3, NK = 70, ROWS = 2 * 2 * NQ };

static inline nabla_plan *make_plan(nabla_context *ctx) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan *plan;
    desc.batch = desc.heads = 2;
    desc.q_tokens = NQ * 64 - 5;
    desc.k_tokens = NK * 64 - 63;
    assert_int_equal(nabla_plan_create(ctx, &desc, &plan), NABLA_OK);
    return plan;
}

/* Random bytes, and the lists that say the same; one row keeps nothing. */
static inline void random_lists(uint8_t *bytes, int32_t *num, int32_t *indices) {
    srand(3);
    for (int i = 0; i < ROWS; i++) {
        num[i] = 0;
        for (int32_t k = 0; k < NK; k++) {
            bytes[i * NK + k] = (uint8_t)(i != 4 && rand() % 3 == 0);
            if (bytes[i * NK + k]) indices[i * NK + num[i]++] = k;
        }
        for (int32_t j = num[i]; j < NK; j++)
            indices[i * NK + j] = -1;
    }
}

#endif

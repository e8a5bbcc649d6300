/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: lists and bitmaps in and out, memory told beforehand, refusals. */
#include "listed_plan.h"
#include "plan_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void refuse(nabla_status got, nabla_status wanted, const char *message) {
    assert_int_equal(got, wanted);
    assert_string_equal(nabla_context_message(ctx), message);
}

static void lists_come_back(void **state) {
    nabla_plan *plan = make_plan(ctx);
    uint8_t bytes[ROWS * NK], again[ROWS * NK];
    int32_t num[ROWS], indices[ROWS * NK], num_again[ROWS], indices_again[ROWS * NK];
    (void)state;
    random_lists(bytes, num, indices);
    ok(nabla_plan_import_bitmap(ctx, plan, bytes));
    ok(nabla_plan_export_bitmap(ctx, plan, again));
    assert_memory_equal(bytes, again, sizeof bytes);
    ok(nabla_plan_export_lists(ctx, plan, num_again, indices_again));
    assert_memory_equal(num, num_again, sizeof num);
    assert_memory_equal(indices, indices_again, sizeof indices);
    memcpy(indices_again, indices, sizeof indices);
    for (int i = 0; i < ROWS; i++) { /* any order will do, and what follows is ignored */
        for (int32_t a = 0, b = num[i] - 1; a < b; a++, b--) {
            const int32_t swap = indices_again[i * NK + a];
            indices_again[i * NK + a] = indices_again[i * NK + b];
            indices_again[i * NK + b] = swap;
        }
        if (num[i] < NK) indices_again[i * NK + num[i]] = 12345;
    }
    memset(bytes, 0, sizeof bytes);
    ok(nabla_plan_import_bitmap(ctx, plan, bytes));
    ok(nabla_plan_import_lists(ctx, plan, num, indices_again));
    ok(nabla_plan_export_lists(ctx, plan, num_again, indices_again));
    assert_memory_equal(num, num_again, sizeof num);
    assert_memory_equal(indices, indices_again, sizeof indices);
    nabla_plan_destroy(plan);
}

static void bad_lists_are_named(void **state) {
    nabla_plan *plan = make_plan(ctx);
    int32_t num[ROWS] = {0}, indices[ROWS * NK] = {0};
    uint8_t bytes[ROWS * NK] = {0};
    nabla_plan_stats before, after;
    (void)state;
    bytes[5] = 1;
    ok(nabla_plan_import_bitmap(ctx, plan, bytes));
    free(bitmap_of(plan, 4, &before));
    num[7] = 71;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "num[1, 0, 1] is 71; a query block keeps 0 to 70 key blocks");
    num[7] = -1;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "num[1, 0, 1] is -1; a query block keeps 0 to 70 key blocks");
    num[7] = 2;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "indices[1, 0, 1, 1] is 0 for the second time; list each key block once");
    indices[7 * NK + 1] = 70;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "indices[1, 0, 1, 1] is 70; key blocks are 0 to 69");
    indices[7 * NK + 1] = -1;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "indices[1, 0, 1, 1] is -1; key blocks are 0 to 69");
    refuse(nabla_plan_import_lists(ctx, plan, num, NULL), NABLA_INVALID_ARGUMENT, "indices is NULL");
    refuse(nabla_plan_import_lists(ctx, plan, NULL, indices), NABLA_INVALID_ARGUMENT, "num is NULL");
    bytes[8] = 2;
    refuse(nabla_plan_import_bitmap(ctx, plan, bytes), NABLA_INVALID_ARGUMENT, "byte 8 of the bitmap is 2; use 0 or 1");
    free(bitmap_of(plan, 4, &after)); /* what was there stays */
    assert_int_equal(before.kept_blocks, after.kept_blocks);
    nabla_plan_destroy(plan);
}

/* ---- sizes and refusals */

static void memory_is_told_before(void **state) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    size_t bytes, without;
    (void)state;
    desc.batch = 1;
    desc.heads = 40;
    desc.q_tokens = desc.k_tokens = 80640;
    ok(nabla_plan_memory(ctx, &desc, &bytes));
    assert_true(bytes >= 40 * 1260 * 20 * 8 * 2 && bytes < 40 * 1260 * 20 * 8 * 2 + 100000);
    desc.backward = 0;
    ok(nabla_plan_memory(ctx, &desc, &without));
    assert_true(without < bytes / 2 + 100000);
    desc.heads = INT64_MAX / 2;
    refuse(nabla_plan_memory(ctx, &desc, &bytes), NABLA_OVERFLOW,
           "a plan of 1 batches x 4611686018427387903 heads x 1260 x 1260 blocks is too large");
    refuse(nabla_attention_memory(ctx, &desc, NULL, NABLA_FP32, 64, 1, &bytes), NABLA_OVERFLOW,
           "a plan of 1 batches x 4611686018427387903 heads x 1260 x 1260 blocks is too large");
    desc.batch = 0;
    refuse(nabla_plan_memory(ctx, &desc, &bytes), NABLA_INVALID_ARGUMENT,
           "a plan of 0 batches and 4611686018427387903 heads; both must be at least 1");
}

static void bad_descriptions_are_named(void **state) {
    static const int32_t late[] = {1, 2}, back[] = {0, 3, 3}, beyond[] = {0, 6}, inside[] = {0, 3};
    nabla_order *order = make_order((nabla_grid){6, 8, 8, 2, 8, 8}), *longer = make_order(nabla_grid_default(7, 8, 8));
    nabla_plan_desc desc = describe(1, 1, order);
    nabla_plan *plan;
    (void)state;
    desc.documents = late;
    desc.document_count = 2;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "the first document begins at frame 1; it must be 0");
    assert_null(plan);
    desc.documents = back;
    desc.document_count = 3;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document 1 begins at frame 3, inside a tile of 2 frames; begin at a multiple of it");
    desc.documents = beyond;
    desc.document_count = 2;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document 1 begins at frame 6; it must come after the one before (0) and below 6");
    desc.documents = inside;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document 1 begins at frame 3, inside a tile of 2 frames; begin at a multiple of it");
    desc.document_count = 7;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document_count is 7; 6 frames hold 1 to 6 documents");
    desc.k_order = longer;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "documents need grids of equal frames; queries have 6 and keys 7");
    desc.k_order = NULL;
    desc.k_tokens = 5;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "documents need q_order and k_order, to know the frames");
    desc.k_tokens = 0;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "k_tokens is 0; without an order it must be 1 to 2147483647");
    desc.size = 3;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "nabla_plan_desc.size is 3 and this library's is 80; set it by the type's default function or sizeof");
    refuse(nabla_plan_create(ctx, NULL, &plan), NABLA_INVALID_ARGUMENT, "desc is NULL");
    nabla_order_destroy(order);
    nabla_order_destroy(longer);
}

static void bad_builds_are_named(void **state) {
    const int64_t shape[] = {1, 64, 1, 20}, fine_shape[] = {1, 64, 1, 24}, short_shape[] = {1, 63, 1, 24};
    float x[64 * 24] = {0};
    const nabla_tensor bad = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
    const nabla_tensor fine = nabla_tensor_contiguous(x, NABLA_FP32, 4, fine_shape);
    const nabla_tensor less = nabla_tensor_contiguous(x, NABLA_FP32, 4, short_shape);
    nabla_tensor half = fine;
    nabla_order *order = make_order(nabla_grid_default(1, 8, 8)), *wide = make_order(nabla_grid_default(1, 8, 16));
    nabla_plan_inputs in = nabla_plan_inputs_default();
    nabla_policy nabla = parse("nabla-0.5"), sta = parse("sta-1-1-1");
    nabla_plan_desc desc = describe(1, 1, order);
    nabla_plan *plan;
    (void)state;
    ok(nabla_plan_create(ctx, &desc, &plan));
    refuse(nabla_plan_build(ctx, plan, &nabla, NULL), NABLA_INVALID_ARGUMENT,
           "a nabla policy looks at q and k, and inputs is NULL");
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT,
           "a nabla policy needs either q and k or q_mean and k_mean in its inputs");
    in.q = in.k = &bad;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_UNSUPPORTED,
           "head dim 20 is not supported; use 16 to 256 in steps of 8");
    in.q = &fine;
    in.k = &less;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT,
           "k has shape [1, 63, 1, 24]; it must be [1, 64, 1, 24]");
    in.k = &fine;
    in.scale = NAN;
    assert_int_equal(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT);
    in.scale = 0.0f;
    half.dtype = NABLA_FP16;
    in.q = in.k = &half;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_UNSUPPORTED, "q is fp16; it must be fp32 or bf16 here");
    nabla.thr = 0.0f;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT,
           "policy thr is 0; it must be above 0 and at most 1");
    refuse(nabla_plan_build(ctx, plan, NULL, &in), NABLA_INVALID_ARGUMENT, "policy is NULL");
    refuse(nabla_plan_build(ctx, NULL, &sta, &in), NABLA_INVALID_ARGUMENT, "plan is NULL");
    nabla_plan_destroy(plan);

    desc.k_order = wide;
    ok(nabla_plan_create(ctx, &desc, &plan));
    refuse(nabla_plan_build(ctx, plan, &sta, NULL), NABLA_INVALID_ARGUMENT,
           "an sta policy needs equal tiles for queries (1x1x1) and keys (1x1x2)");
    nabla_plan_destroy(plan);
    desc.k_order = NULL;
    desc.k_tokens = 64;
    ok(nabla_plan_create(ctx, &desc, &plan));
    refuse(nabla_plan_build(ctx, plan, &sta, NULL), NABLA_INVALID_ARGUMENT,
           "an sta policy needs a plan made with q_order and k_order");
    nabla_plan_destroy(plan);
    nabla_order_destroy(order);
    nabla_order_destroy(wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_come_back),       cmocka_unit_test(bad_lists_are_named),
        cmocka_unit_test(memory_is_told_before), cmocka_unit_test(bad_descriptions_are_named),
        cmocka_unit_test(bad_builds_are_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over two halves of the keys, merged, is attention over all of them. Also: two contexts work from two
   threads. */
#include "check.h"

#include "nabla/nabla.h"
#include "noise.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, H = 3, S = 200, D = 40, N = B * S * H * D, ROWS = B * H * S, BLOCKS = 4 };

#define ok(call) assert_int_equal(call, NABLA_OK)

static nabla_tensor tensor(float *x) {
    const int64_t shape[] = {B, S, H, D};
    return nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
}

static nabla_tensor lse_tensor(float *x) {
    const int64_t shape[] = {B, H, S};
    return nabla_tensor_contiguous(x, NABLA_FP32, 3, shape);
}

/* A plan whose bit (q, k) is bit k of masks[q]. */
static nabla_plan *make_plan(nabla_context *ctx, const unsigned masks[BLOCKS]) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    uint8_t kept[B * H * BLOCKS * BLOCKS];
    nabla_plan *plan;
    desc.batch = B;
    desc.heads = H;
    desc.q_tokens = desc.k_tokens = S;
    for (int i = 0; i < B * H * BLOCKS * BLOCKS; i++)
        kept[i] = masks[i / BLOCKS % BLOCKS] >> (i % BLOCKS) & 1;
    ok(nabla_plan_create(ctx, &desc, &plan));
    ok(nabla_plan_import_bitmap(ctx, plan, kept));
    return plan;
}

/* One part's result. */
typedef struct part {
    float *o, *lse;
} part;

static part attend(nabla_context *ctx, const unsigned masks[BLOCKS]) {
    part p = {.o = malloc(N * sizeof(float)), .lse = malloc(ROWS * sizeof(float))};
    float *x[] = {noise(N, 1), noise(N, 2), noise(N, 3)};
    nabla_plan *plan = make_plan(ctx, masks);
    const nabla_tensor q = tensor(x[0]), k = tensor(x[1]), v = tensor(x[2]), o = tensor(p.o), lse = lse_tensor(p.lse);
    ok(nabla_attention_forward(ctx, plan, NULL, &q, &k, &v, &o, &lse));
    nabla_plan_destroy(plan);
    for (int i = 0; i < 3; i++)
        free(x[i]);
    return p;
}

static void part_destroy(part *p) {
    free(p->o);
    free(p->lse);
}

static void halves_make_a_whole(void **state) {
    static const unsigned left[] = {3, 1, 0, 0}, right[] = {12, 8, 6, 0}, whole[] = {15, 9, 6, 0};
    nabla_context *ctx;
    (void)state;
    ok(nabla_context_create(NULL, &ctx, NULL, 0));
    part a = attend(ctx, left), b = attend(ctx, right), all = attend(ctx, whole);
    const nabla_tensor o_a = tensor(a.o), lse_a = lse_tensor(a.lse), o_b = tensor(b.o), lse_b = lse_tensor(b.lse);
    ok(nabla_attention_merge(ctx, &o_a, &lse_a, &o_b, &lse_b));
    for (int i = 0; i < N; i++)
        assert_true(fabsf(a.o[i] - all.o[i]) < 1e-6f);
    for (int i = 0; i < ROWS; i++)
        assert_true(a.lse[i] == all.lse[i] || fabsf(a.lse[i] - all.lse[i]) < 1e-6f);
    assert_true(isinf(a.lse[S - 1])); /* the last block keeps nothing */
    nabla_tensor bad = o_b;
    bad.shape[1] = 199;
    assert_int_equal(nabla_attention_merge(ctx, &o_a, &lse_a, &bad, &lse_b), NABLA_INVALID_ARGUMENT);
    assert_string_equal(nabla_context_message(ctx), "o_b has shape [2, 199, 3, 40]; it must be [2, 200, 3, 40]");
    part_destroy(&a);
    part_destroy(&b);
    part_destroy(&all);
    nabla_context_destroy(ctx);
}

static void contexts_are_independent(void **state) {
    static const unsigned masks[] = {15, 9, 6, 3};
    part results[2];
    nabla_context *contexts[2];
    nabla_context_options options = nabla_context_options_default();
    (void)state;
    options.threads = 1;
    for (int i = 0; i < 2; i++)
        ok(nabla_context_create(&options, contexts + i, NULL, 0));
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < 2; i++)
        results[i] = attend(contexts[i], masks);
    assert_memory_equal(results[0].o, results[1].o, N * sizeof(float));
    for (int i = 0; i < 2; i++) {
        part_destroy(results + i);
        nabla_context_destroy(contexts[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_make_a_whole),
        cmocka_unit_test(contexts_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

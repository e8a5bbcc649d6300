/* SPDX-License-Identifier: Apache-2.0 */
/* What the backward pass promises beyond its values: gradients left out change nothing of the others, in any scheme and
   with fewer threads than asked; and no call takes more memory than was told. */
#include "check.h"

#include "attention/context.h"
#include "noise.h"

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 17, S = 64 * BLOCKS - 24, D = 16, MOST_HEADS = 5, Q = 0, K, V, O, D_O, LSE, TENSORS };

#define ok(call) assert_int_equal(call, NABLA_OK)

/* Tensors of one forward pass, a plan, and a context. */
typedef struct setup {
    nabla_dtype dtype; /* of q, k and v */
    nabla_context *ctx;
    nabla_plan *plan;
    nabla_attention_params params;
    nabla_tensor t[TENSORS];
    int heads;
} setup;

static nabla_tensor tensor(int heads, nabla_dtype dtype, void *x) {
    const int64_t shape[] = {1, S, heads, D};
    return nabla_tensor_contiguous(x, dtype, 4, shape);
}

static size_t count(const setup *s) {
    return (size_t)s->heads * S * D;
}

static nabla_plan_desc describe(int heads) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = 1;
    desc.heads = heads;
    desc.q_tokens = desc.k_tokens = S;
    return desc;
}

static nabla_plan *make_plan(nabla_context *ctx, int heads) {
    const nabla_plan_desc desc = describe(heads);
    uint8_t kept[MOST_HEADS * BLOCKS * BLOCKS];
    nabla_plan *plan;
    for (int i = 0; i < heads * BLOCKS * BLOCKS; i++) /* column 5 and row 7 are empty */
        kept[i] = i % BLOCKS != 5 && i / BLOCKS % BLOCKS != 7 && (i * 7919 % 11) < 5;
    ok(nabla_plan_create(ctx, &desc, &plan));
    ok(nabla_plan_import_bitmap(ctx, plan, kept));
    return plan;
}

/* Their upper halves, where they lie. */
static void *to_bf16(float *x, size_t n) {
    uint16_t *out = (uint16_t *)x;
    for (size_t i = 0; i < n; i++)
        memcpy(out + i, (char *)(x + i) + 2, sizeof *out);
    return out;
}

static setup make_of(nabla_dtype dtype, int threads, int heads, int deterministic) {
    setup s = {.dtype = dtype, .heads = heads, .params = nabla_attention_params_default()};
    const int64_t lse_shape[] = {1, heads, S};
    nabla_context_options options = nabla_context_options_default();
    options.threads = threads;
    s.params.deterministic = deterministic;
    ok(nabla_context_create(&options, &s.ctx, NULL, 0));
    s.plan = make_plan(s.ctx, heads);
    for (unsigned i = 0; i < LSE; i++) {
        float *x = noise(count(&s), i + 1);
        const bool narrow = i <= V && dtype == NABLA_BF16;
        s.t[i] = tensor(heads, narrow ? NABLA_BF16 : NABLA_FP32, narrow ? to_bf16(x, count(&s)) : x);
    }
    s.t[LSE] = nabla_tensor_contiguous(noise((size_t)heads * S, 9), NABLA_FP32, 3, lse_shape);
    ok(nabla_attention_forward(s.ctx, s.plan, NULL, s.t + Q, s.t + K, s.t + V, s.t + O, s.t + LSE));
    return s;
}

static setup make(int threads, int heads, int deterministic) {
    return make_of(NABLA_FP32, threads, heads, deterministic);
}

static void destroy(setup *s) {
    for (int i = 0; i < TENSORS; i++)
        free(s->t[i].data);
    nabla_plan_destroy(s->plan);
    nabla_context_destroy(s->ctx);
}

/* Gradients of q, k, v in one piece; those not in `mask` are left out and stay 0. */
static nabla_status backward(const setup *s, unsigned mask, float *gradients) {
    nabla_tensor d[3];
    memset(gradients, 0, 3 * count(s) * sizeof *gradients);
    for (size_t i = 0; i < 3; i++)
        d[i] = tensor(s->heads, NABLA_FP32, gradients + i * count(s));
    return nabla_attention_backward(s->ctx, s->plan, &s->params, s->t + Q, s->t + K, s->t + V, s->t + O, s->t + LSE,
                                    s->t + D_O, mask & 1 ? d : NULL, mask & 2 ? d + 1 : NULL, mask & 4 ? d + 2 : NULL);
}

/* Every choice of gradients, against one thread's full and deterministic pass. */
static void check_choices(int threads, int heads, int deterministic) {
    setup one = make(1, heads, 1), s = make(threads, heads, deterministic);
    const size_t n = count(&s);
    float *full = malloc(3 * n * sizeof *full), *some = malloc(3 * n * sizeof *some);
    ok(backward(&one, 7, full));
    for (unsigned mask = 0; mask < 8; mask++) {
        ok(backward(&s, mask, some));
        for (size_t i = 0; i < 3 * n; i++) {
            const float expected = mask >> (i / n) & 1 ? full[i] : 0.0f;
            if (deterministic ? some[i] != expected : !(fabsf(some[i] - expected) < 1e-5f))
                fail_msg("%d threads, %d heads, gradients %u: [%zu] is %g, not %g", threads, heads, mask, i,
                         (double)some[i], (double)expected);
        }
    }
    free(full);
    free(some);
    destroy(&one);
    destroy(&s);
}

static void gradients_may_be_left_out(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++)
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            check_choices(threads, 1, deterministic);
            check_choices(threads, 2, deterministic);
            check_choices(threads, MOST_HEADS, deterministic);
        }
}

/* Within a parallel region OpenMP gives one thread where the context asks for four. */
static void fewer_threads_than_asked(void **state) {
    (void)state;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        setup s = make(4, 1, deterministic);
        const size_t n = 3 * count(&s);
        float *alone = malloc(n * sizeof *alone), *within = malloc(n * sizeof *within);
        nabla_status status = NABLA_INTERNAL;
        ok(backward(&s, 7, alone));
#pragma omp parallel num_threads(2)
#pragma omp single
        status = backward(&s, 7, within);
        ok(status);
        for (size_t i = 0; i < n; i++)
            assert_true(fabsf(alone[i] - within[i]) < 1e-5f);
        free(alone);
        free(within);
        destroy(&s);
    }
}

static void check_memory(nabla_dtype dtype, int threads, int deterministic, unsigned mask) {
    setup s = make_of(dtype, threads, 1 + threads % 3, deterministic);
    float *gradients = malloc(3 * count(&s) * sizeof *gradients);
    const nabla_plan_desc desc = describe(s.heads);
    size_t forward = 0, both = 0;
    ok(nabla_attention_memory(s.ctx, &desc, &s.params, dtype, D, 0, &forward));
    assert_true(s.ctx->scratch_size <= forward);
    ok(nabla_attention_memory(s.ctx, &desc, &s.params, dtype, D, 1, &both));
    ok(backward(&s, mask, gradients));
    assert_true(s.ctx->scratch_size <= (both > forward ? both : forward));
    free(gradients);
    destroy(&s);
}

static void memory_is_told(void **state) {
    (void)state;
    for (int dtype = NABLA_FP32; dtype <= NABLA_BF16; dtype++)
        for (int threads = 1; threads <= 4; threads++)
            for (int deterministic = 0; deterministic < 2; deterministic++)
                for (unsigned mask = 0; mask < 8; mask++)
                    check_memory((nabla_dtype)dtype, threads, deterministic, mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_may_be_left_out),
        cmocka_unit_test(fewer_threads_than_asked),
        cmocka_unit_test(memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

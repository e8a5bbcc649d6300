/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts, levels, NABLA_CPU; and what attention says of calls that cannot work. */
#include "check.h"

#include "nabla/nabla.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ok(call) assert_int_equal(call, NABLA_OK)

static void refuse_options(nabla_context_options options, nabla_status status, const char *message) {
    nabla_context *ctx = (nabla_context *)&options;
    char text[256];
    assert_int_equal(nabla_context_create(&options, &ctx, text, sizeof text), status);
    assert_null(ctx);
    assert_string_equal(text, message);
}

static void options_are_checked(void **state) {
    nabla_context_options options = nabla_context_options_default();
    (void)state;
    options.threads = -1;
    refuse_options(options, NABLA_INVALID_ARGUMENT, "threads is -1; use 1 to 4096, or 0 for every processor");
    options.threads = 0;
    options.device = NABLA_CUDA;
    if (!nabla_device_count(NABLA_CUDA)) {
        nabla_device_info info = {.size = sizeof info};
        char reason[256], message[300];
        assert_int_equal(nabla_device_describe(NABLA_CUDA, 0, &info, reason, sizeof reason), NABLA_UNSUPPORTED);
        assert_true(strstr(reason, "no GPU: ") == reason || !strcmp(reason, "this build has no CUDA"));
        snprintf(message, sizeof message, "%s; use device NABLA_CPU", reason);
        refuse_options(options, NABLA_UNSUPPORTED, message);
    }
    options.device = (nabla_device)7;
    refuse_options(options, NABLA_INVALID_ARGUMENT, "device 7 is unknown; use NABLA_CPU or NABLA_CUDA");
    options.size = 1;
    refuse_options(options, NABLA_INVALID_ARGUMENT,
                   "nabla_context_options.size is 1 and this library's is 64; set it by the type's default function or "
                   "sizeof");
    assert_int_equal(nabla_context_create(NULL, NULL, NULL, 0), NABLA_INVALID_ARGUMENT);
    nabla_context_destroy(NULL);
}

static void levels_rise(void **state) {
    (void)state;
    assert_string_equal(nabla_level_name(0), "generic");
    assert_null(nabla_level_name(-1));
    assert_null(nabla_level_name(100));
    for (int32_t i = 0; nabla_level_name(i); i++) {
        nabla_context_options options = nabla_context_options_default();
        nabla_context *ctx;
        options.level = nabla_level_name(i);
        options.threads = 3;
        ok(nabla_context_create(&options, &ctx, NULL, 0));
        assert_string_equal(nabla_context_level(ctx), nabla_level_name(i));
        assert_int_equal(nabla_context_threads(ctx), 3);
        assert_string_equal(nabla_context_message(ctx), "");
        nabla_context_destroy(ctx);
    }
}

/* The device functions on the CPU, where they are plain memory. */
static void memory_goes_to_and_fro(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_device_info info = {.size = sizeof info};
    nabla_context *ctx;
    char there[100], back[100] = "";
    void *memory;
    (void)state;
    assert_int_equal(nabla_device_count(NABLA_CPU), 1);
    ok(nabla_device_describe(NABLA_CPU, 0, &info, NULL, 0));
    assert_true(info.memory_total > info.memory_free && info.multiprocessors > 0 && *info.level);
    assert_int_equal(nabla_device_describe(NABLA_CPU, 1, &info, there, sizeof there), NABLA_INVALID_ARGUMENT);
    assert_string_equal(there, "there is no device 0:1");
    info.size = 3;
    assert_int_equal(nabla_device_describe(NABLA_CPU, 0, &info, NULL, 0), NABLA_INVALID_ARGUMENT);
    options.memory_reserve = 1000;
    ok(nabla_context_create(&options, &ctx, NULL, 0));
    assert_int_equal(nabla_context_device(ctx), NABLA_CPU);
    ok(nabla_context_reserve(ctx, 5000));
    assert_true(nabla_context_reserved(ctx) == 5000 && nabla_context_reserved(NULL) == 0);
    ok(nabla_context_synchronize(ctx));
    ok(nabla_context_trim(ctx));
    assert_int_equal(nabla_context_reserved(ctx), 0);
    assert_int_equal(nabla_context_trim(NULL), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nabla_context_reserve(ctx, SIZE_MAX), NABLA_OUT_OF_MEMORY);
    ok(nabla_memory_allocate(ctx, sizeof there, &memory));
    assert_int_equal((uintptr_t)memory % 64, 0);
    memset(there, 7, sizeof there);
    ok(nabla_memory_upload(ctx, memory, there, sizeof there));
    ok(nabla_memory_download(ctx, back, memory, sizeof back));
    assert_memory_equal(there, back, sizeof back);
    assert_int_equal(nabla_memory_download(ctx, NULL, memory, 1), NABLA_INVALID_ARGUMENT);
    assert_string_equal(nabla_context_message(ctx), "to is NULL");
    nabla_memory_free(ctx, memory);
    assert_int_equal(nabla_memory_allocate(ctx, SIZE_MAX, &memory), NABLA_OUT_OF_MEMORY);
    assert_null(memory);
    nabla_context_destroy(ctx);
}

static void unknown_levels_are_refused(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *ctx;
    char text[256];
    const char *start = "level 'sse9' is not a level of this machine and build; it has generic";
    (void)state;
    options.level = "sse9";
    assert_int_equal(nabla_context_create(&options, &ctx, text, sizeof text), NABLA_UNSUPPORTED);
    assert_memory_equal(text, start, strlen(start));
}

static void environment_forces_a_level(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *ctx;
    char text[256];
    (void)state;
    setenv("NABLA_CPU", "generic", 1);
    ok(nabla_context_create(NULL, &ctx, NULL, 0));
    assert_string_equal(nabla_context_level(ctx), "generic");
    nabla_context_destroy(ctx);
    setenv("NABLA_CPU", "bogus", 1);
    assert_int_equal(nabla_context_create(NULL, &ctx, text, sizeof text), NABLA_UNSUPPORTED);
    assert_non_null(strstr(text, "NABLA_CPU's 'bogus'"));
    options.level = "generic"; /* what the caller asks for counts first */
    ok(nabla_context_create(&options, &ctx, NULL, 0));
    nabla_context_destroy(ctx);
    unsetenv("NABLA_CPU");
}

static void statuses_have_words(void **state) {
    (void)state;
    for (int i = 0; i <= NABLA_INTERNAL; i++)
        assert_string_not_equal(nabla_status_string((nabla_status)i), "unknown status");
    assert_string_equal(nabla_status_string((nabla_status)99), "unknown status");
    assert_string_equal(nabla_version(), "0.1.0");
}

/* ---- attention's refusals */

enum { S = 70, D = 16, N = S * D };

/* A small call in which everything is right. */
typedef struct call {
    nabla_context *ctx;
    nabla_plan *plan;
    nabla_attention_params params;
    nabla_tensor q, k, v, o, lse, d_o, d_q, d_k, d_v;
    float memory[9][N];
} call;

static call *call_create(int backward) {
    call *c = calloc(1, sizeof *c);
    const int64_t shape[] = {1, S, 1, D}, lse[] = {1, 1, S};
    nabla_tensor *tensors[] = {&c->q, &c->k, &c->v, &c->o, &c->d_o, &c->d_q, &c->d_k, &c->d_v};
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_policy policy;
    ok(nabla_context_create(NULL, &c->ctx, NULL, 0));
    desc.batch = desc.heads = 1;
    desc.q_tokens = desc.k_tokens = S;
    desc.backward = backward;
    ok(nabla_plan_create(c->ctx, &desc, &c->plan));
    ok(nabla_policy_parse(c->ctx, "dense", &policy));
    ok(nabla_plan_build(c->ctx, c->plan, &policy, NULL));
    for (int i = 0; i < 8; i++)
        *tensors[i] = nabla_tensor_contiguous(c->memory[i], NABLA_FP32, 4, shape);
    c->lse = nabla_tensor_contiguous(c->memory[8], NABLA_FP32, 3, lse);
    c->params = nabla_attention_params_default();
    return c;
}

static void call_destroy(call *c) {
    nabla_plan_destroy(c->plan);
    nabla_context_destroy(c->ctx);
    free(c);
}

static nabla_status forward(call *c) {
    return nabla_attention_forward(c->ctx, c->plan, &c->params, &c->q, &c->k, &c->v, &c->o, &c->lse);
}

static nabla_status backward(call *c) {
    return nabla_attention_backward(c->ctx, c->plan, &c->params, &c->q, &c->k, &c->v, &c->o, &c->lse, &c->d_o, &c->d_q,
                                    &c->d_k, &c->d_v);
}

static void refuse(call *c, nabla_status got, nabla_status wanted, const char *message) {
    assert_int_equal(got, wanted);
    assert_string_equal(nabla_context_message(c->ctx), message);
    call_destroy(c);
}

static void bad_tensors_are_named(void **state) {
    (void)state;
    call *c = call_create(1);
    ok(forward(c));
    ok(backward(c));
    call_destroy(c);

    c = call_create(1);
    c->q.shape[3] = 20;
    refuse(c, forward(c), NABLA_UNSUPPORTED, "head dim 20 is not supported; use 16 to 256 in steps of 8");
    c = call_create(1);
    c->k.shape[1] = 69;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "k has shape [1, 69, 1, 16]; it must be [1, 70, 1, 16]");
    c = call_create(1);
    c->v.rank = 3;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "v has rank 3; it must be 4");
    c = call_create(1);
    c->v.rank = 6;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "v has rank 6; use 1 to 5");
    c = call_create(1);
    c->v.dtype = NABLA_BF16;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "v is bf16; it must be fp32 here");
    c = call_create(1);
    c->q.dtype = NABLA_FP16;
    refuse(c, forward(c), NABLA_UNSUPPORTED, "q is fp16; it must be fp32 or bf16 here");
    c = call_create(1);
    c->q.dtype = (nabla_dtype)9;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "q has dtype 9, which is none of nabla_dtype's");
    c = call_create(1);
    c->q.data = NULL;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "q has no data");
    c = call_create(1);
    c->q.data = (char *)c->q.data + 1;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "q's data is not aligned to its elements of 4 bytes");
    c = call_create(1);
    c->k.stride[3] = 2;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "k has stride 2 in its last dimension; it must be 1");
    c = call_create(1);
    c->k.stride[1] = INT64_MAX / 8;
    refuse(c, forward(c), NABLA_OVERFLOW, "k's shape and strides reach past what memory can hold");
    c = call_create(1);
    c->o.stride[1] = 8;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT,
           "o's strides let elements share memory, and it is written; give each element its own");
    c = call_create(1);
    c->k.shape[0] = 0;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "k has size 0 in dimension 0; it must be at least 1");
    c = call_create(1);
    c->lse.dtype = NABLA_BF16;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "lse is bf16; it must be fp32 here");
    c = call_create(1);
    c->d_o.shape[2] = 2;
    refuse(c, backward(c), NABLA_INVALID_ARGUMENT, "d_o has shape [1, 70, 2, 16]; it must be [1, 70, 1, 16]");
}

static void bad_params_are_named(void **state) {
    (void)state;
    call *c = call_create(1);
    c->params.scale = INFINITY;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "scale is inf; use a finite number, or 0 for 1 / sqrt(D)");
    c = call_create(1);
    c->params.alpha = NAN;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT, "alpha is nan and beta 0; both must be finite");
    c = call_create(1);
    c->params.size = 0;
    refuse(c, forward(c), NABLA_INVALID_ARGUMENT,
           "nabla_attention_params.size is 0 and this library's is 24; set it by the type's default function or "
           "sizeof");
    c = call_create(0);
    refuse(c, backward(c), NABLA_INVALID_ARGUMENT,
           "d_k and d_v need a plan created with backward = 1, and this one has 0");
    c = call_create(0); /* d_q alone needs no transpose */
    ok(nabla_attention_backward(c->ctx, c->plan, NULL, &c->q, &c->k, &c->v, &c->o, &c->lse, &c->d_o, &c->d_q, NULL,
                                NULL));
    size_t bytes;
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = desc.heads = 1;
    desc.q_tokens = desc.k_tokens = S;
    refuse(c, nabla_attention_memory(c->ctx, &desc, NULL, NABLA_FP16, 64, 0, &bytes), NABLA_UNSUPPORTED,
           "dtype 2 is not supported on the CPU; use fp32 or bf16");
    c = call_create(1);
    ok(nabla_attention_memory(c->ctx, &desc, NULL, NABLA_FP32, 64, 0, &bytes));
    assert_true(bytes > 0);
    refuse(c, nabla_attention_forward(c->ctx, NULL, NULL, &c->q, &c->k, &c->v, &c->o, NULL), NABLA_INVALID_ARGUMENT,
           "plan is NULL");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),        cmocka_unit_test(levels_rise),
        cmocka_unit_test(memory_goes_to_and_fro),     cmocka_unit_test(unknown_levels_are_refused),
        cmocka_unit_test(environment_forces_a_level), cmocka_unit_test(statuses_have_words),
        cmocka_unit_test(bad_tensors_are_named),      cmocka_unit_test(bad_params_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

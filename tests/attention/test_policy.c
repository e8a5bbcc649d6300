/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of policies: what it takes, what it says of what it does not. */
#include "check.h"

#include "nabla/nabla.h"

#include <string.h>

#define USAGE                                                                                                          \
    "use dense, nabla-<thr>, sta-<wT>-<wH>-<wW>, or terms joined by _ such as nabla-0.7_sta-11-3-3; _int8 last for 8 " \
    "bits"
#define MASS "needs a probability mass to keep, above 0 and at most 1, such as nabla-0.7"
#define WINDOW "needs three windows in tiles of 1 to 1000000 (frames, height, width), such as sta-11-3-3"

static nabla_context *ctx;

static int setup(void **state) {
    (void)state;
    return nabla_context_create(NULL, &ctx, NULL, 0) != NABLA_OK;
}

static int teardown(void **state) {
    (void)state;
    nabla_context_destroy(ctx);
    return 0;
}

static void reads_back_what_it_writes(void **state) {
    static const char *const pairs[][2] = {
        {"dense", "dense"},
        {"nabla-0.7", "nabla-0.7"},
        {"nabla-1", "nabla-1"},
        {"nabla-1.0", "nabla-1"},
        {"nabla-0.70", "nabla-0.7"},
        {"nabla-00.25", "nabla-0.25"},
        {"nabla-0.000001", "nabla-0.000001"},
        {"nabla-0.3333333", "nabla-0.3333333"},
        {"sta-11-3-3", "sta-11-3-3"},
        {"sta-1-1000000-03", "sta-1-1000000-3"},
        {"nabla-0.6_sta-11-5-5", "nabla-0.6_sta-11-5-5"},
        {"sta-11-5-5_nabla-0.6", "nabla-0.6_sta-11-5-5"},
        {"dense_int8", "dense_int8"},
        {"int8_sta-1-3-3", "sta-1-3-3_int8"},
        {"nabla-0.6_int8_sta-11-5-5", "nabla-0.6_sta-11-5-5_int8"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        nabla_policy p, again;
        char text[64];
        assert_int_equal(nabla_policy_parse(ctx, pairs[i][0], &p), NABLA_OK);
        assert_int_equal(nabla_policy_format(&p, text, sizeof text), (int)strlen(pairs[i][1]));
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(nabla_policy_parse(ctx, text, &again), NABLA_OK);
        assert_memory_equal(&p, &again, sizeof p);
    }
}

static void every_float_survives(void **state) {
    (void)state;
    uint32_t bits = 0x3f800000u; /* 1, and downwards to 1e-9 */
    for (int i = 0; i < 20000; i++, bits -= 12347) {
        nabla_policy p = {.size = sizeof p, .has_nabla = 1}, again;
        char text[64];
        memcpy(&p.thr, &bits, sizeof bits);
        nabla_policy_format(&p, text, sizeof text);
        assert_int_equal(nabla_policy_parse(ctx, text, &again), NABLA_OK);
        assert_memory_equal(&p, &again, sizeof p);
    }
}

static void explains_what_is_wrong(void **state) {
    static const char *const pairs[][2] = {
        {"", "the policy is empty; " USAGE},
        {"foo", "policy term 'foo' is unknown; " USAGE},
        {"Dense", "policy term 'Dense' is unknown; " USAGE},
        {"int8", "int8 says how to compute, not which blocks to keep: join it to a term that does, such as dense_int8"},
        {"dense_int8_int8", "policy term 'int8' comes after another int8 term; give one"},
        {"dense_int4", "policy term 'int4' is unknown; " USAGE},
        {"dense ", "policy term 'dense ' is unknown; " USAGE},
        {"nabla", "policy term 'nabla' is unknown; " USAGE},
        {"nabla-", "policy term 'nabla-' " MASS},
        {"nabla-1.5", "policy term 'nabla-1.5' " MASS},
        {"nabla-0", "policy term 'nabla-0' " MASS},
        {"nabla-0.0", "policy term 'nabla-0.0' " MASS},
        {"nabla--0.5", "policy term 'nabla--0.5' " MASS},
        {"nabla-0.5x", "policy term 'nabla-0.5x' " MASS},
        {"nabla-0.", "policy term 'nabla-0.' " MASS},
        {"nabla-.5", "policy term 'nabla-.5' " MASS},
        {"nabla-nan", "policy term 'nabla-nan' " MASS},
        {"nabla-1e-3", "policy term 'nabla-1e-3' " MASS},
        {"nabla-0,5", "policy term 'nabla-0,5' " MASS},
        {"sta-11-3", "policy term 'sta-11-3' " WINDOW},
        {"sta-11-3-3-3", "policy term 'sta-11-3-3-3' " WINDOW},
        {"sta-0-3-3", "policy term 'sta-0-3-3' " WINDOW},
        {"sta-11--3-3", "policy term 'sta-11--3-3' " WINDOW},
        {"sta-11-3-99999999999", "policy term 'sta-11-3-99999999999' " WINDOW},
        {"nabla-0.7_", "policy term '' is unknown; " USAGE},
        {"_", "policy term '' is unknown; " USAGE},
        {"nabla-0.7_nabla-0.5", "policy term 'nabla-0.5' comes after another nabla term; give one"},
        {"sta-1-1-1_sta-1-1-1", "policy term 'sta-1-1-1' comes after another sta term; give one"},
        {"dense_dense", "policy term 'dense' comes after another dense term; give one"},
        {"dense_nabla-0.7",
         "policy 'dense_nabla-0.7' joins dense with other terms; dense keeps everything and stands alone"},
        {"a\nb", "policy term 'a?b' is unknown; " USAGE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        nabla_policy p;
        assert_int_equal(nabla_policy_parse(ctx, pairs[i][0], &p), NABLA_INVALID_ARGUMENT);
        assert_string_equal(nabla_context_message(ctx), pairs[i][1]);
        assert_int_equal(p.dense | p.has_nabla | p.has_sta, 0);
    }
    assert_int_equal(nabla_policy_parse(ctx, NULL, &(nabla_policy){0}), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nabla_policy_parse(ctx, "dense", NULL), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nabla_policy_parse(NULL, "foo", &(nabla_policy){0}), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nabla_policy_parse(NULL, "dense", &(nabla_policy){0}), NABLA_OK);
}

static void long_texts_are_cut(void **state) {
    char text[2000];
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(nabla_policy_parse(ctx, text, &(nabla_policy){0}), NABLA_INVALID_ARGUMENT);
    assert_true(strlen(nabla_context_message(ctx)) < 300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_back_what_it_writes),
        cmocka_unit_test(every_float_survives),
        cmocka_unit_test(explains_what_is_wrong),
        cmocka_unit_test(long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

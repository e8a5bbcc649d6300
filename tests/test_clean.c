/* SPDX-License-Identifier: Apache-2.0 */
/* The cleaner of prompts against ftfy and Python's html module, and what it refuses. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "text/clean.h"

static int wrong(size_t i, const json_t *one) {
    const char *prompt = json_string_value(json_array_get(one, 0)), *want = json_string_value(json_array_get(one, 1));
    const json_t *misread = json_array_get(one, 2);
    char *text = NULL;
    int found = -1, bad = 0;
    nv_error err = {0};
    assert_non_null(prompt);
    assert_non_null(want);
    if (nv_clean(prompt, &text, &found, &err) != NABLA_OK) {
        fprintf(stderr, "case %zu: %s\n", i, err.text);
        return 1;
    }
    if (strcmp(text, want) != 0) bad = 1;
    if (!json_is_null(misread) && json_is_true(misread) != found) bad = 1;
    if (bad)
        fprintf(stderr, "case %zu: \"%s\"\n  gives \"%s\" (misread %d)\n  not   \"%s\"\n", i, prompt, text, found,
                want);
    free(text);
    return bad;
}

static void cleans_as_the_reference(void **state) {
    (void)state;
    json_error_t problem;
    json_t *cases = json_load_file(NABLA_TEST_DATA "/clean.json", 0, &problem), *one;
    size_t i;
    int failures = 0;
    assert_non_null(cases);
    assert_true(json_array_size(cases) >= 300);
    json_array_foreach(cases, i, one) failures += wrong(i, one);
    json_decref(cases);
    assert_int_equal(failures, 0);
}

static void expect_refusal(const char *text, const char *word) {
    char *out = NULL;
    nv_error err = {0};
    assert_int_equal(nv_clean(text, &out, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_null(out);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void refuses_what_is_not_utf8(void **state) {
    (void)state;
    expect_refusal("caf\xe9", "byte 4 of it is 0xe9");
    expect_refusal("\xc0\xaf", "not UTF-8");         /* overlong */
    expect_refusal("\xed\xa0\x80", "not UTF-8");     /* a surrogate */
    expect_refusal("\xf4\x90\x80\x80", "not UTF-8"); /* beyond the last */
    expect_refusal("ab\xe4\xb8", "byte 3");          /* cut off */
}

static void refuses_what_is_too_long(void **state) {
    (void)state;
    char *text = malloc(NV_PROMPT_MOST + 2), *out;
    assert_non_null(text);
    memset(text, 'a', NV_PROMPT_MOST + 1);
    text[NV_PROMPT_MOST + 1] = '\0';
    expect_refusal(text, "65536");
    text[NV_PROMPT_MOST] = '\0';
    assert_int_equal(nv_clean(text, &out, NULL, NULL), NABLA_OK);
    assert_int_equal(strlen(out), NV_PROMPT_MOST);
    free(out);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleans_as_the_reference),
        cmocka_unit_test(refuses_what_is_not_utf8),
        cmocka_unit_test(refuses_what_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

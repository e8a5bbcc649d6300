/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "check.h"
#include "tensor/error.h"

static void sentence_and_status(void **state) {
    (void)state;
    nv_error err;
    assert_int_equal(nv_fail(&err, NABLA_IO, "%s has %d bytes", "a.bin", 7), NABLA_IO);
    assert_int_equal(err.status, NABLA_IO);
    assert_string_equal(err.text, "a.bin has 7 bytes");
    assert_int_equal(nv_fail(NULL, NABLA_CORRUPT, "nobody listens"), NABLA_CORRUPT);
}

static void context_goes_in_front(void **state) {
    (void)state;
    nv_error err;
    nv_fail(&err, NABLA_CORRUPT, "no shape");
    assert_int_equal(nv_fail_in(&err, "file %d", 3), NABLA_CORRUPT);
    assert_string_equal(err.text, "file 3: no shape");
}

static void own_text_may_be_an_argument(void **state) {
    (void)state;
    nv_error err;
    nv_fail(&err, NABLA_IO, "inner");
    nv_fail(&err, NABLA_IO, "outer (%s)", err.text);
    assert_string_equal(err.text, "outer (inner)");
}

static void long_sentences_are_cut(void **state) {
    (void)state;
    nv_error err;
    char name[2000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    nv_fail(&err, NABLA_IO, "%s", name);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    nv_fail_in(&err, "%s", name);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

static void control_characters_are_hidden(void **state) {
    (void)state;
    nv_error err;
    nv_fail(&err, NABLA_CORRUPT, "name \"%s\"", "a\nb\033[2J\x7f\xc3\xa9");
    assert_string_equal(err.text, "name \"a?b?[2J?\xc3\xa9\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentence_and_status),           cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(own_text_may_be_an_argument),   cmocka_unit_test(long_sentences_are_cut),
        cmocka_unit_test(control_characters_are_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

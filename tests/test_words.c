/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "files.h"
#include "scratch.h"
#include "text/words.h"
#include "weights/json.h"

static const char *const list[] = {"a",      "red",  "green",      "circle",      "square", "star",
                                   "moving", "left", "b\xc3\xa4r", "in a circle", "in a",   "in a red sky today"};
enum { WORDS = sizeof list / sizeof *list, LENGTH = 6 };

static nv_words *make(void) {
    nv_words *words;
    assert_int_equal(nv_words_create(list, WORDS, LENGTH, &words, NULL), NABLA_OK);
    return words;
}

static void check_ids(const nv_words *words, const char *text, int count, const int32_t expected[LENGTH],
                      const char *expected_unknown) {
    int32_t ids[LENGTH];
    char unknown[64] = "";
    assert_int_equal(nv_words_encode(words, text, ids, unknown, sizeof unknown), count);
    assert_memory_equal(ids, expected, sizeof ids);
    assert_string_equal(unknown, expected_unknown);
    assert_int_equal(nv_words_encode(words, text, ids, NULL, 0), count);
    assert_memory_equal(ids, expected, sizeof ids);
}

static void captions_become_ids(void **state) {
    (void)state;
    nv_words *words = make();
    assert_int_equal(nv_words_rows(words), WORDS + NV_WORD_FIRST);
    assert_int_equal(nv_words_length(words), LENGTH);
    check_ids(words, "a red circle", 3, (int32_t[]){2, 3, 5, 0, 0, 0}, "");
    check_ids(words, "  A RED,circle--moving\tLeft!\n", 5, (int32_t[]){2, 3, 5, 8, 9, 0}, "");
    check_ids(words, "", 0, (int32_t[]){0, 0, 0, 0, 0, 0}, "");
    check_ids(words, " .,;!?\"' ", 0, (int32_t[]){0, 0, 0, 0, 0, 0}, "");
    check_ids(words, "a a a a a a star", 7, (int32_t[]){2, 2, 2, 2, 2, 2}, "");
    check_ids(words, "b\xc3\xa4r", 1, (int32_t[]){10, 0, 0, 0, 0, 0}, "");
    nv_words_destroy(words);
}

/* What follows the first join has rows of its own, and so has that; a caption may begin with one. */
static void a_join_begins_a_clause(void **state) {
    (void)state;
    static const char *const joins[] = {"moving", "in a"}, *const stranger[] = {"and"};
    const int32_t more = WORDS;
    nv_words *words = make(), *again;
    nv_error err;
    assert_int_equal(nv_words_join(words, stranger, 1, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "\"and\""));
    assert_int_equal(nv_words_join(words, joins, 2, &err), NABLA_OK);
    assert_int_equal(nv_words_rows(words), 2 * WORDS + NV_WORD_FIRST);
    check_ids(words, "red star moving red", 4, (int32_t[]){3, 7, 8 + more, 3 + more, 0, 0}, "");
    check_ids(words, "a in a a moving cat", 5, (int32_t[]){2, 12 + more, 2 + more, 8 + more, 1, 0}, "cat");
    check_ids(words, "moving red in a circle", 3, (int32_t[]){8, 3, 11, 0, 0, 0}, "");
    const char *path = scratch_path("joins.json");
    assert_int_equal(nv_words_write(words, path, &err), NABLA_OK);
    assert_int_equal(nv_words_read(path, &again, &err), NABLA_OK);
    check_ids(again, "red star moving red", 4, (int32_t[]){3, 7, 8 + more, 3 + more, 0, 0}, "");
    remove(path);
    nv_words_destroy(again);
    nv_words_destroy(words);
    static const char bad[] = "{\"length\": 2, \"words\": [\"a\"], \"joins\": [\"b\"]}",
                      worse[] = "{\"length\": 2, \"words\": [\"a\"], \"joins\": [7]}";
    assert_int_equal(nv_words_parse(bad, strlen(bad), "bad", &again, &err), NABLA_CORRUPT);
    assert_null(again);
    assert_int_equal(nv_words_parse(worse, strlen(worse), "worse", &again, &err), NABLA_CORRUPT);
    assert_null(again);
}

static void the_longest_phrase_wins(void **state) {
    (void)state;
    nv_words *words = make();
    check_ids(words, "a circle in a circle", 3, (int32_t[]){2, 5, 11, 0, 0, 0}, "");
    check_ids(words, "In, a -- CIRCLE in a star", 3, (int32_t[]){11, 12, 7, 0, 0, 0}, "");
    check_ids(words, "in circle a", 3, (int32_t[]){1, 5, 2, 0, 0, 0}, "in");
    check_ids(words, "in a red sky", 3, (int32_t[]){12, 3, 1, 0, 0, 0}, "sky");
    check_ids(words, "in a red sky today", 1, (int32_t[]){13, 0, 0, 0, 0, 0}, "");
    check_ids(words, "in", 1, (int32_t[]){1, 0, 0, 0, 0, 0}, "in");
    char text[200] = "in a ";
    memset(text + 5, 'x', sizeof text - 6); /* a word that cannot be part of any phrase */
    text[sizeof text - 1] = '\0';
    int32_t ids[LENGTH];
    assert_int_equal(nv_words_encode(words, text, ids, NULL, 0), 2);
    assert_int_equal(ids[0], 12);
    nv_words_destroy(words);
}

static void unknown_words_are_listed_once(void **state) {
    (void)state;
    nv_words *words = make();
    check_ids(words, "a Sqare star, sqare, qare re", 6, (int32_t[]){2, 1, 7, 1, 1, 1}, "sqare, qare, re");
    int32_t ids[LENGTH];
    char unknown[10] = "";
    nv_words_encode(words, "purple cat elephantine ox", ids, unknown, sizeof unknown);
    assert_string_equal(unknown, "purple"); /* ", cat" would not fit */
    unknown[0] = '\0';
    nv_words_encode(words, "elephantine ox", ids, unknown, sizeof unknown);
    assert_string_equal(unknown, "ox");
    char word[3000];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_int_equal(nv_words_encode(words, word, ids, unknown, sizeof unknown), 1);
    assert_int_equal(ids[0], NV_WORD_UNKNOWN);
    assert_string_equal(unknown, "ox"); /* what is there stays */
    nv_words_destroy(words);
}

/* 62 letters, then "â¬" in bytes 63 to 65: it goes as a whole. */
static void cut_between_characters(void **state) {
    (void)state;
    char text[80];
    nv_word word;
    memset(text, 'X', 62);
    strcpy(text + 62, "\xe2\x82\xac y");
    const char *at = text;
    assert_int_equal(nv_words_next(&at, word), 1);
    assert_int_equal(strlen(word), 62);
    assert_int_equal(word[61], 'x');
    assert_int_equal(nv_words_next(&at, word), 1);
    assert_string_equal(word, "y");
    assert_int_equal(nv_words_next(&at, word), 0);
    memset(text, '\x80', sizeof text - 1); /* not UTF-8: still a word */
    text[sizeof text - 1] = '\0';
    at = text;
    assert_int_equal(nv_words_next(&at, word), 1);
    assert_int_equal(nv_words_next(&at, word), 0);
}

static void valid_utf8(void **state) {
    (void)state;
    static const char *const good[] = {"", "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const broken[] = {
        "\xe4", "\x80", "a\xc3", "\xc0\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(nv_json_can_hold(good[i]));
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_false(nv_json_can_hold(broken[i]));
}

static void a_word_that_cannot_be_written(void **state) {
    (void)state;
    static const char *const latin[] = {"b\xe4r"};
    nv_words *words;
    nv_error err = {0};
    assert_int_equal(nv_words_create(latin, 1, LENGTH, &words, NULL), NABLA_OK);
    assert_int_equal(nv_words_write(words, scratch_path("latin.json"), &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "UTF-8"));
    assert_int_equal(scratch_files(), 0);
    nv_words_destroy(words);
}

static void misspellings_have_a_nearest_word(void **state) {
    (void)state;
    nv_words *words = make();
    assert_string_equal(nv_words_nearest(words, "sqare"), "square");
    assert_string_equal(nv_words_nearest(words, "SQUAER"), "square");
    assert_string_equal(nv_words_nearest(words, "rde"), "red");
    assert_string_equal(nv_words_nearest(words, "circles"), "circle");
    assert_string_equal(nv_words_nearest(words, "mvoign"), "moving");
    assert_null(nv_words_nearest(words, "elephant"));
    assert_null(nv_words_nearest(words, "re")); /* too short to guess */
    assert_null(nv_words_nearest(words, ""));
    assert_null(nv_words_nearest(words, "?"));
    nv_words_destroy(words);
}

static void files_come_back(void **state) {
    (void)state;
    nv_words *words = make(), *back;
    size_t size;
    int32_t ids[LENGTH];
    const char *path = scratch_path("words.json");
    assert_int_equal(nv_words_write(words, path, NULL), NABLA_OK);
    assert_int_equal(nv_words_read(path, &back, NULL), NABLA_OK);
    assert_int_equal(nv_words_rows(back), nv_words_rows(words));
    assert_int_equal(nv_words_length(back), LENGTH);
    nv_words_encode(back, "red b\xc3\xa4r", ids, NULL, 0);
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], 10);
    char *text = read_all(path, &size);
    assert_non_null(strstr(text, "\"length\": 6"));
    assert_int_equal(text[size - 1], '\n');
    free(text);
    remove(path);
    nv_words_destroy(words);
    nv_words_destroy(back);
    nv_words_destroy(NULL);
}

static const struct {
    const char *text, *message;
} bad[] = {
    {"", NULL},
    {"[1]", "w.json holds no JSON object: it must begin with '{'"},
    {"{\"words\":[]}", "w.json lacks the key \"length\""},
    {"{\"length\":4}", "w.json lacks the key \"words\""},
    {"{\"length\":0,\"words\":[]}", "w.json: \"length\" is 0, but must lie in 1 to 4096"},
    {"{\"length\":5000,\"words\":[]}", "w.json: \"length\" is 5000, but must lie in 1 to 4096"},
    {"{\"length\":\"4\",\"words\":[]}", "w.json: \"length\" must be a whole number"},
    {"{\"length\":4,\"words\":{}}", "w.json: \"words\" must be a list"},
    {"{\"length\":4,\"words\":[\"a\",1]}", "w.json: item 1 of \"words\" is no text"},
    {"{\"length\":4,\"words\":[\"a\",\"b\",\"a\"]}", "w.json: the word \"a\" is listed twice"},
    {"{\"length\":4,\"words\":[\"A\"]}", "w.json: \"A\" cannot be in a list of words: use 1 to 63 lower-case letters "
                                         "and digits, or words of them parted by single spaces"},
    {"{\"length\":4,\"words\":[\"a  b\"]}", "w.json: \"a  b\" cannot be in a list of words: use 1 to 63 lower-case "
                                            "letters and digits, or words of them parted by single spaces"},
    {"{\"length\":4,\"words\":[\"\"]}", "w.json: \"\" cannot be in a list of words: use 1 to 63 lower-case letters and "
                                        "digits, or words of them parted by single spaces"},
    {"{\"length\":4,\"words\":[],\"dim\":3}",
     "w.json has the unknown key \"dim\": the model may be of another kind; notes begin with '_'"},
    {"{\"length\":4,\"length\":4,\"words\":[]}", NULL},
};

static void refuses_bad_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nv_error err = {0};
        nv_words *words;
        assert_int_equal(nv_words_parse(bad[i].text, strlen(bad[i].text), "w.json", &words, &err), NABLA_CORRUPT);
        assert_null(words);
        assert_int_equal(err.status, NABLA_CORRUPT);
        if (bad[i].message) assert_string_equal(err.text, bad[i].message);
    }
    nv_error err;
    nv_words *words;
    assert_int_equal(nv_words_read("no-such-file", &words, &err), NABLA_IO);
    assert_string_equal(err.text, "cannot open no-such-file: No such file or directory");
    assert_int_equal(nv_words_read(".", &words, &err), NABLA_IO);
    assert_int_equal(nv_words_create(list, WORDS, 0, &words, &err), NABLA_INVALID_ARGUMENT);
    assert_string_equal(err.text, "a caption's length is 0 words, but must lie in 1 to 4096");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_become_ids),
        cmocka_unit_test(a_join_begins_a_clause),
        cmocka_unit_test(the_longest_phrase_wins),
        cmocka_unit_test(unknown_words_are_listed_once),
        cmocka_unit_test(cut_between_characters),
        cmocka_unit_test(valid_utf8),
        cmocka_unit_test(a_word_that_cannot_be_written),
        cmocka_unit_test(misspellings_have_a_nearest_word),
        cmocka_unit_test(files_come_back),
        cmocka_unit_test(refuses_bad_files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in several files: what an index may say, and what it may not. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "scratch.h"
#include "weights/file.h"
#include "weights/shards.h"

static const float numbers[] = {1, 2, 3, 4};

static void write_shard(const char *file, const char *tensor) {
    const nv_st_entry e = {
        .name = tensor, .dtype = NV_ST_F32, .rank = 1, .shape = {4}, .bytes = sizeof numbers, .data = numbers};
    assert_int_equal(nv_st_write(scratch_path(file), &e, 1, NULL, 0, NULL), NABLA_OK);
}

static nabla_status open_index(const char *text, nv_shards **s, nv_error *err) {
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path("index.json"));
    assert_int_equal(nv_file_write(path, text, strlen(text), NULL), NABLA_OK);
    return nv_shards_open(path, s, err);
}

static void joins_shards(void **state) {
    (void)state;
    nv_shards *s;
    nv_error err = {0};
    write_shard("one.safetensors", "a");
    write_shard("two.safetensors", "b");
    assert_int_equal(open_index("{\"metadata\": {\"total_size\": 32}, \"weight_map\": {\"a\": \"one.safetensors\", "
                                "\"b\": \"two.safetensors\"}}",
                                &s, &err),
                     NABLA_OK);
    assert_string_equal(nv_shards_find(s, "a")->name, "a");
    assert_string_equal(nv_shards_find(s, "b")->name, "b");
    assert_null(nv_shards_find(s, "c"));
    nv_shards_close(s);
    assert_int_equal(nv_shards_open(scratch_path("two.safetensors"), &s, &err), NABLA_OK);
    assert_null(nv_shards_find(s, "a"));
    assert_non_null(nv_shards_find(s, "b"));
    nv_shards_close(s);
}

static void expect_refusal(const char *text, nabla_status wanted, const char *word) {
    nv_shards *s;
    nv_error err = {0};
    assert_int_equal(open_index(text, &s, &err), wanted);
    assert_null(s);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void refuses_what_an_index_may_not_say(void **state) {
    (void)state;
    write_shard("one.safetensors", "a");
    expect_refusal("{\"weight_map\": {\"a\": \"three.safetensors\"}}", NABLA_IO, "three.safetensors");
    expect_refusal("{\"weight_map\": {\"x\": \"one.safetensors\"}}", NABLA_CORRUPT, "\"x\" is not in");
    expect_refusal("{\"weight_map\": {\"a\": \"../one.safetensors\"}}", NABLA_CORRUPT, "beside it");
    expect_refusal("{\"weight_map\": {\"a\": \"/etc/passwd\"}}", NABLA_CORRUPT, "beside it");
    expect_refusal("{\"weight_map\": {\"a\": \"\"}}", NABLA_CORRUPT, "beside it");
    expect_refusal("{\"weight_map\": {\"a\": 7}}", NABLA_CORRUPT, "beside it");
    expect_refusal("{\"weight_map\": {}}", NABLA_CORRUPT, "weight_map");
    expect_refusal("{\"weight_map\": [\"a\"]}", NABLA_CORRUPT, "weight_map");
    expect_refusal("{\"metadata\": {}}", NABLA_CORRUPT, "weight_map");
    expect_refusal("{\"weights\": {}}", NABLA_CORRUPT, "weights");
    expect_refusal("{\"weight_map\": {\"a\": \"index.json\"}}", NABLA_CORRUPT, "index.json");
    expect_refusal("nothing", NABLA_CORRUPT, "JSON");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_shards),
        cmocka_unit_test(refuses_what_an_index_may_not_say),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

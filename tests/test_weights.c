/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of files: what a folder or an index chooses, and indexes that lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "scratch.h"
#include "weights/file.h"
#include "weights/set.h"

static void write_text(const char *name, const char *text) {
    assert_int_equal(nv_file_write(scratch_path(name), text, strlen(text), NULL), NABLA_OK);
}

/* One tensor of each name, [2] in fp32. */
static void write_shard(const char *file, const char *const *names, size_t count) {
    static const float data[2] = {1.5f, -2.0f};
    nv_st_entry entries[4];
    for (size_t i = 0; i < count; i++) {
        entries[i] = (nv_st_entry){.name = names[i], .dtype = NV_ST_F32, .rank = 1, .bytes = 8, .data = data};
        entries[i].shape[0] = 2;
    }
    assert_int_equal(nv_st_write(scratch_path(file), entries, count, NULL, 0, NULL), NABLA_OK);
}

static void remove_all(const char *const *names) {
    for (; *names; names++)
        unlink(scratch_path(*names));
}

static void expect_refusal(const char *path, nabla_status status, const char *message) {
    nv_weights *w;
    nv_error err = {0};
    const nabla_status got = nv_weights_open(path, &w, &err);
    if (got != status || !strstr(err.text, message)) fail_msg("status %d, \"%s\", not %s", (int)got, err.text, message);
    assert_null(w);
}

static const char index_name[] = "m.safetensors.index.json";

static void make_shards(void) {
    write_shard("a.safetensors", (const char *const[]){"x", "z"}, 2);
    write_shard("b.safetensors", (const char *const[]){"y"}, 1);
}

static void an_index_joins_its_shards(void **state) {
    (void)state;
    nv_weights *w;
    nv_error err = {0};
    make_shards();
    write_text(index_name, "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"x\":\"a.safetensors\","
                           "\"y\":\"b.safetensors\",\"z\":\"a.safetensors\"}}");
    if (nv_weights_open(scratch_path("."), &w, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(nv_weights_files(w), 2);
    assert_int_equal(nv_weights_count(w), 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(nv_weights_at(w, i)->name, ((const char *const[]){"x", "y", "z"})[i]);
    assert_null(nv_weights_at(w, 3));
    assert_null(nv_weights_find(w, "w"));
    const int64_t shape[2] = {2, 2};
    const nv_st_entry *e;
    float values[2];
    assert_int_equal(nv_weights_get(w, "y", shape, 1, &e, &err), NABLA_OK);
    assert_int_equal(nv_st_read_f32(e, values, 2, NULL), NABLA_OK);
    assert_true(values[0] == 1.5f && values[1] == -2.0f);
    assert_non_null(strstr(nv_weights_file(w, e), "b.safetensors"));
    assert_int_equal(nv_weights_get(w, "y", shape, 2, &e, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "b.safetensors: tensor \"y\" has the shape [2], but must have [2, 2]"));
    assert_int_equal(nv_weights_get(w, "v", shape, 1, &e, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "index.json lacks the tensor \"v\""));
    nv_weights_close(w);
    remove_all((const char *const[]){"a.safetensors", "b.safetensors", index_name, NULL});
}

static const struct {
    const char *index;
    nabla_status status;
    const char *message;
} lies[] = {
    {"[]", NABLA_CORRUPT, "JSON object"},
    {"{\"weight_map\":", NABLA_CORRUPT, "not valid JSON"},
    {"{}", NABLA_CORRUPT, "has no \"weight_map\""},
    {"{\"weight_map\":3}", NABLA_CORRUPT, "has no \"weight_map\""},
    {"{\"weight_map\":{}}", NABLA_CORRUPT, "has no \"weight_map\""},
    {"{\"weight_map\":{\"x\":3}}", NABLA_CORRUPT, "tensor \"x\" in \"(no text)\""},
    {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", NABLA_CORRUPT, "which is no file name in its folder"},
    {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", NABLA_CORRUPT, "which is no file name in its folder"},
    {"{\"weight_map\":{\"x\":\"..\"}}", NABLA_CORRUPT, "which is no file name in its folder"},
    {"{\"weight_map\":{\"x\":\"\"}}", NABLA_CORRUPT, "which is no file name in its folder"},
    {"{\"weight_map\":{\"x\":\"c.safetensors\",\"y\":\"d.safetensors\",\"z\":\"a.safetensors\"}}", NABLA_IO,
     "names 3 shards and 2 of them are not there, such as c.safetensors"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"b.safetensors\",\"y\":\"b.safetensors\"}}", NABLA_CORRUPT,
     "places tensor \"z\" in b.safetensors, but it is not there: it lies in a.safetensors"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"a.safetensors\",\"w\":\"a.safetensors\"}}", NABLA_CORRUPT,
     "places tensor \"w\" in a.safetensors, but it is not there"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\"}}", NABLA_CORRUPT, "a.safetensors holds tensor \"z\", which "},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"b.safetensors\"}}", NABLA_CORRUPT, "not valid JSON"},
    {"{\"weight_map\":{\"x\":\"a.safetensors\",\"z\":\"a.safetensors\",\"y\":\"m.safetensors.index.json\"}}",
     NABLA_CORRUPT, "m.safetensors.index.json"},
};

static void refuses_indexes_that_lie(void **state) {
    (void)state;
    make_shards();
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        write_text(index_name, lies[i].index);
        expect_refusal(scratch_path(index_name), lies[i].status, lies[i].message);
    }
    write_shard("b.safetensors", (const char *const[]){"y", "x"}, 2);
    write_text(index_name, "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    expect_refusal(scratch_path(index_name), NABLA_CORRUPT, "tensor \"x\" lies in both ");
    remove_all((const char *const[]){"a.safetensors", "b.safetensors", index_name, NULL});
}

static void chooses_a_file_of_a_folder(void **state) {
    (void)state;
    nv_weights *w;
    expect_refusal(scratch_path("."), NABLA_IO, "holds no .safetensors");
    write_shard("a.safetensors", (const char *const[]){"x"}, 1);
    assert_int_equal(nv_weights_open(scratch_path("."), &w, NULL), NABLA_OK);
    assert_int_equal(nv_weights_count(w), 1);
    nv_weights_close(w);
    write_shard("b.safetensors", (const char *const[]){"y"}, 1);
    expect_refusal(scratch_path("."), NABLA_IO, "holds 2 .safetensors and 0 indexes");
    write_shard("model.safetensors", (const char *const[]){"y"}, 1);
    assert_int_equal(nv_weights_open(scratch_path("."), &w, NULL), NABLA_OK);
    assert_non_null(strstr(nv_weights_path(w), "/model.safetensors"));
    nv_weights_close(w);
    write_text("model.safetensors.index.json", "{}");
    expect_refusal(scratch_path("."), NABLA_CORRUPT, "holds weights twice");
    remove_all((const char *const[]){"a.safetensors", "b.safetensors", "model.safetensors",
                                     "model.safetensors.index.json", NULL});
}

static void refuses_other_formats_by_name(void **state) {
    (void)state;
    write_text("x.gguf", "GGUF\3 and more");
    expect_refusal(scratch_path("x.gguf"), NABLA_UNSUPPORTED, "is a GGUF file");
    write_text("x.pth", "\x80\x02\x8a\x0a and more");
    expect_refusal(scratch_path("x.pth"), NABLA_UNSUPPORTED, "before PyTorch 1.6");
    write_text("empty", "");
    expect_refusal(scratch_path("empty"), NABLA_CORRUPT, "has 0 bytes");
    expect_refusal(scratch_path("nothing"), NABLA_IO, "cannot open");
    expect_refusal("/dev/null", NABLA_IO, "is a device, not a file of tensors");
    remove_all((const char *const[]){"x.gguf", "x.pth", "empty", NULL});
}

/* Of a mapped file the pages come back; those of the caller's memory must not go. */
static void what_was_forgotten_reads_again(void **state) {
    (void)state;
    FILE *f = fopen(NABLA_TEST_DATA "/dit_dense.safetensors", "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const size_t size = (size_t)ftell(f), page = 4096;
    unsigned char *copy = aligned_alloc(page, (size + page - 1) / page * page);
    assert_non_null(copy);
    rewind(f);
    assert_int_equal(fread(copy, 1, size, f), size);
    fclose(f);
    nv_weights *mapped, *memory;
    assert_int_equal(nv_weights_open(NABLA_TEST_DATA "/dit_dense.safetensors", &mapped, NULL), NABLA_OK);
    assert_int_equal(nv_weights_open_memory(copy, size, "memory", &memory, NULL), NABLA_OK);
    for (size_t i = 0; i < nv_weights_count(mapped); i++) {
        const nv_st_entry *a = nv_weights_at(mapped, i), *b = nv_weights_at(memory, i);
        nv_weights_forget(mapped, a);
        nv_weights_forget(memory, b);
        if (a->bytes > 0) assert_memory_equal(a->data, b->data, a->bytes);
    }
    int zeros = 1;
    for (size_t i = 0; i < size; i++)
        zeros &= copy[i] == 0;
    assert_false(zeros);
    nv_weights_close(mapped);
    nv_weights_close(memory);
    free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_joins_its_shards),     cmocka_unit_test(what_was_forgotten_reads_again),
        cmocka_unit_test(refuses_indexes_that_lie),      cmocka_unit_test(chooses_a_file_of_a_folder),
        cmocka_unit_test(refuses_other_formats_by_name),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: files of the Python package, and files that lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "weights/safetensors.h"

static nv_st_file *open_data(const char *name) {
    char path[512];
    nv_st_file *file;
    nv_error err = {0};
    snprintf(path, sizeof path, NABLA_TEST_DATA "/%s", name);
    if (nv_st_open(path, &file, &err) != NABLA_OK) fail_msg("%s", err.text);
    return file;
}

static void reads_what_python_wrote(void **state) {
    (void)state;
    nv_st_file *file = open_data("python.safetensors");
    assert_int_equal(nv_st_count(file), 7);
    assert_string_equal(nv_st_metadata(file, "format"), "pt");
    assert_null(nv_st_metadata(file, "nothing"));
    assert_null(nv_st_find(file, "block.0"));
    assert_null(nv_st_at(file, 7));

    const nv_st_entry *e = nv_st_find(file, "block.0.weight");
    assert_non_null(e);
    assert_int_equal(e->dtype, NV_ST_F32);
    assert_int_equal(e->rank, 2);
    assert_int_equal(e->shape[0], 3);
    assert_int_equal(e->shape[1], 5);
    assert_int_equal(e->bytes, 60);

    double scalar;
    e = nv_st_find(file, "scalar");
    assert_int_equal(e->rank, 0);
    memcpy(&scalar, e->data, sizeof scalar);
    assert_true(scalar == 2.5);

    e = nv_st_find(file, "gr\xc3\xb6\xc3\x9f"
                         "e \xe6\xa8\xa1\xe5\x9e\x8b \xf0\x9f\x98\x80 \"\\");
    assert_non_null(e);
    assert_memory_equal(e->data, "\0\1\2", 3);

    assert_int_equal(nv_st_find(file, "deep")->rank, NV_ST_MAX_RANK);
    assert_int_equal(nv_st_find(file, "empty")->bytes, 0);
    assert_int_equal(nv_st_read_f32(nv_st_find(file, "empty"), NULL, 0, NULL), NABLA_OK);
    nv_st_close(file);
}

static void knows_every_dtype(void **state) {
    (void)state;
    static const char *const names[NV_ST_DTYPES] = {"float64",       "float32",     "float16", "bfloat16", "int64",
                                                    "int32",         "int16",       "int8",    "uint8",    "bool",
                                                    "float8_e4m3fn", "float8_e5m2", "uint16",  "uint32",   "uint64"};
    nv_st_file *file = open_data("dtypes.safetensors");
    assert_int_equal(nv_st_count(file), NV_ST_DTYPES);
    for (int d = 0; d < NV_ST_DTYPES; d++) {
        const nv_st_entry *e = nv_st_find(file, names[d]);
        assert_non_null(e);
        assert_int_equal(e->dtype, d);
        assert_int_equal(e->bytes, 3 * nv_st_dtype_size((nv_st_dtype)d));
    }
    float x[3];
    nv_error err;
    assert_int_equal(nv_st_read_f32(nv_st_find(file, "int32"), x, 3, &err), NABLA_UNSUPPORTED);
    assert_string_equal(err.text, "tensor \"int32\" has dtype I32, which is not read as fp32");
    assert_int_equal(nv_st_read_f32(nv_st_find(file, "float16"), x, 2, &err), NABLA_INVALID_ARGUMENT);
    assert_string_equal(err.text, "tensor \"float16\" has 3 elements where 2 are wanted");
    nv_st_close(file);
}

static void converts_exactly(void **state) {
    (void)state;
    nv_st_file *file = open_data("convert.safetensors");
    for (const char *const *name = (const char *const[]){"f16", "bf16", "f64", NULL}; *name; name++) {
        char expected[32];
        snprintf(expected, sizeof expected, "%s.expected", *name);
        const nv_st_entry *e = nv_st_find(file, *name), *bits = nv_st_find(file, expected);
        size_t count = (size_t)e->shape[0];
        uint32_t *want = malloc(count * sizeof *want), *got = malloc(count * sizeof *got);
        memcpy(want, bits->data, count * sizeof *want);
        assert_int_equal(nv_st_read_f32(e, (float *)got, count, NULL), NABLA_OK);
        for (size_t i = 0; i < count; i++) {
            /* torch makes signalling NaNs quiet; we keep them as they are */
            int nan = (want[i] & 0x7fffffff) > 0x7f800000 && (got[i] & 0x7fffffff) > 0x7f800000;
            if (want[i] != got[i] && !nan) fail_msg("%s[%zu]: %08x, not %08x", *name, i, got[i], want[i]);
        }
        free(want);
        free(got);
    }
    nv_st_close(file);
}

/* ------------------------------------------------------------------ hostile files */

static size_t build(unsigned char *file, const char *header, size_t data_bytes) {
    uint64_t length = strlen(header);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, (size_t)length);
    memset(file + 8 + length, 0, data_bytes);
    return 8 + (size_t)length + data_bytes;
}

#define F32(shape, begin, end) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static const struct {
    const char *header;
    size_t data_bytes;
    nabla_status status;
    const char *message;
} hostile[] = {
    {"[]", 0, NABLA_CORRUPT, "x: its header does not begin with '{': not a safetensors file?"},
    {" {}", 0, NABLA_CORRUPT, "x: its header does not begin with '{': not a safetensors file?"},
    {"", 0, NABLA_CORRUPT, "x: its header does not begin with '{': not a safetensors file?"},
    {"{\"a\":" F32("[1]", 0, 4) ",\"a\":" F32("[1]", 4, 8) "}", 8, NABLA_CORRUPT, NULL},
    {"{\"a\":" F32("[1]", 0, 4) "} x", 4, NABLA_CORRUPT, NULL},
    {"{\"a\":" F32("[1]", 0, 4), 4, NABLA_CORRUPT, NULL},
    {"{\"a\xff\":" F32("[1]", 0, 4) "}", 4, NABLA_CORRUPT, NULL},
    {"{\"a\\u0000b\":" F32("[1]", 0, 4) "}", 4, NABLA_CORRUPT, NULL},
    {"{\"a\":3}", 0, NABLA_CORRUPT, "x: the header's entry \"a\" describes no tensor"},
    {"{\"a\\nb\":3}", 0, NABLA_CORRUPT, "x: the header's entry \"a?b\" describes no tensor"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, NABLA_CORRUPT, "x: tensor \"a\" has no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, NABLA_CORRUPT, "x: tensor \"a\" has no shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, NABLA_CORRUPT,
     "x: tensor \"a\" has no data_offsets of two whole numbers"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"scale\":2}}", 4, NABLA_CORRUPT,
     "x: tensor \"a\" has the unknown property \"scale\""},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, NABLA_UNSUPPORTED,
     "x: tensor \"a\" has the unknown dtype \"F4\""},
    {"{\"a\":" F32("[-1]", 0, 4) "}", 4, NABLA_CORRUPT,
     "x: the shape of tensor \"a\" holds something other than whole numbers from 0 up"},
    {"{\"a\":" F32("[1.0]", 0, 4) "}", 4, NABLA_CORRUPT,
     "x: the shape of tensor \"a\" holds something other than whole numbers from 0 up"},
    {"{\"a\":" F32("[4611686018427387904]", 0, 0) "}", 0, NABLA_OVERFLOW,
     "x: the shape of tensor \"a\" has more elements than can be"},
    {"{\"a\":" F32("[4294967296,4294967296]", 0, 0) "}", 0, NABLA_OVERFLOW,
     "x: the shape of tensor \"a\" has more elements than can be"},
    {"{\"a\":" F32("[99999999999999999999]", 0, 0) "}", 0, NABLA_CORRUPT, NULL},
    {"{\"a\":" F32("[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, NABLA_UNSUPPORTED,
     "x: tensor \"a\" has 9 dimensions, at most 8 are read"},
    {"{\"a\":" F32("[1]", 0, 8) "}", 4, NABLA_CORRUPT,
     "x: data_offsets [0, 8] of tensor \"a\" lie outside the file's 4 bytes of data"},
    {"{\"a\":" F32("[1]", -4, 0) "}", 4, NABLA_CORRUPT,
     "x: data_offsets [-4, 0] of tensor \"a\" lie outside the file's 4 bytes of data"},
    {"{\"a\":" F32("[1]", 4, 0) "}", 4, NABLA_CORRUPT,
     "x: data_offsets [4, 0] of tensor \"a\" lie outside the file's 4 bytes of data"},
    {"{\"a\":" F32("[2]", 0, 4) "}", 4, NABLA_CORRUPT,
     "x: tensor \"a\" needs 8 bytes by its dtype and shape but its data_offsets give 4"},
    {"{\"a\":" F32("[2]", 0, 8) ",\"b\":" F32("[2]", 4, 12) "}", 12, NABLA_CORRUPT,
     "x: tensor \"b\" begins at 4, but the data before it end at 8"},
    {"{\"a\":" F32("[1]", 0, 4) ",\"b\":" F32("[1]", 8, 12) "}", 12, NABLA_CORRUPT,
     "x: tensor \"b\" begins at 8, but the data before it end at 4"},
    {"{\"a\":" F32("[2]", 0, 8) ",\"b\":" F32("[0]", 4, 4) "}", 8, NABLA_CORRUPT,
     "x: tensor \"b\" begins at 4, but the data before it end at 8"},
    {"{\"a\":" F32("[1]", 4, 8) "}", 8, NABLA_CORRUPT, "x: tensor \"a\" begins at 4, but the data before it end at 0"},
    {"{\"a\":" F32("[1]", 0, 4) "}", 5, NABLA_CORRUPT, "x: its tensors cover 4 of the 5 bytes of data"},
    {"{}", 1, NABLA_CORRUPT, "x: its tensors cover 0 of the 1 bytes of data"},
    {"{\"__metadata__\":3}", 0, NABLA_CORRUPT, "x: __metadata__ is no object of strings"},
    {"{\"__metadata__\":{\"a\":3}}", 0, NABLA_CORRUPT, "x: \"a\" in __metadata__ is no string"},
};

static void refuses_hostile_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        unsigned char buffer[512];
        nv_error err = {0};
        nv_st_file *file;
        size_t size = build(buffer, hostile[i].header, hostile[i].data_bytes);
        nabla_status status = nv_st_open_memory(buffer, size, "x", &file, &err);
        assert_null(file);
        if (status != hostile[i].status || err.status != status) {
            fail_msg("%s: status %d, %s", hostile[i].header, (int)status, err.text);
        }
        if (hostile[i].message) assert_string_equal(err.text, hostile[i].message);
        assert_true(strncmp(err.text, "x: ", 3) == 0);
    }
}

static void refuses_every_cut(void **state) {
    (void)state;
    unsigned char whole[512];
    size_t size = build(whole, "{\"a\":" F32("[2]", 0, 8) "}   ", 8);
    nv_st_file *file;
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *exact = malloc(cut + 1); /* so that a sanitizer sees any step too far */
        memcpy(exact, whole, cut);
        assert_int_equal(nv_st_open_memory(exact, cut, "x", &file, NULL), NABLA_CORRUPT);
        free(exact);
    }
    assert_int_equal(nv_st_open_memory(whole, size, "x", &file, NULL), NABLA_OK);
    nv_st_close(file);
}

static void names_what_is_wrong_with_a_length(void **state) {
    (void)state;
    nv_error err;
    nv_st_file *file;
    assert_int_equal(nv_st_open_memory("abc", 3, "x", &file, &err), NABLA_CORRUPT);
    assert_string_equal(err.text, "x has 3 bytes, too few for a safetensors file");
    assert_int_equal(nv_st_open_memory("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "x", &file, &err), NABLA_CORRUPT);
    assert_string_equal(err.text,
                        "x: a header of 18446744073709551615 bytes is more than the format's 100000000: not a "
                        "safetensors file?");
    assert_int_equal(nv_st_open_memory("\x03\0\0\0\0\0\0\0{}", 10, "x", &file, &err), NABLA_CORRUPT);
    assert_string_equal(err.text, "x is cut off: its header has 3 bytes, the file 10");
}

static void an_unaligned_tensor_reads(void **state) {
    (void)state;
    unsigned char buffer[512];
    nv_st_file *file;
    float x;
    size_t size =
        build(buffer, "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":" F32("[1]", 1, 5) "}", 5);
    memcpy(buffer + size - 4, "\0\0\x80\x3f", 4);
    assert_int_equal(nv_st_open_memory(buffer, size, "x", &file, NULL), NABLA_OK);
    assert_int_equal(nv_st_read_f32(nv_st_find(file, "a"), &x, 1, NULL), NABLA_OK);
    assert_true(x == 1.0f);
    nv_st_close(file);
}

static void no_tensors_are_fine(void **state) {
    (void)state;
    nv_st_file *file;
    assert_int_equal(nv_st_open_memory("\x02\0\0\0\0\0\0\0{}", 10, "x", &file, NULL), NABLA_OK);
    assert_int_equal(nv_st_count(file), 0);
    assert_null(nv_st_find(file, "a"));
    assert_null(nv_st_metadata(file, "a"));
    nv_st_close(file);
    nv_st_close(NULL);
}

static void refuses_what_is_no_file(void **state) {
    (void)state;
    nv_error err;
    nv_st_file *file;
    assert_int_equal(nv_st_open("no-such-file", &file, &err), NABLA_IO);
    assert_string_equal(err.text, "cannot open no-such-file: No such file or directory");
    assert_int_equal(nv_st_open(".", &file, &err), NABLA_IO);
    assert_string_equal(err.text, ". is a folder, not a safetensors file");
    assert_int_equal(nv_st_open("/dev/null", &file, &err), NABLA_IO);
    char pipe[32];
    snprintf(pipe, sizeof pipe, "pipe-%ld", (long)getpid());
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(nv_st_open(pipe, &file, &err), NABLA_IO);
    unlink(pipe);
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
    nv_st_file *mapped = open_data("dit_dense.safetensors"), *memory;
    assert_int_equal(nv_st_open_memory(copy, size, "memory", &memory, NULL), NABLA_OK);
    for (size_t i = 0; i < nv_st_count(mapped); i++) {
        const nv_st_entry *a = nv_st_at(mapped, i), *b = nv_st_at(memory, i);
        nv_st_forget(mapped, a);
        nv_st_forget(memory, b);
        if (a->bytes > 0) assert_memory_equal(a->data, b->data, a->bytes);
    }
    int zeros = 1;
    for (size_t i = 0; i < size; i++)
        zeros &= copy[i] == 0;
    assert_false(zeros);
    nv_st_close(mapped);
    nv_st_close(memory);
    free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_python_wrote),   cmocka_unit_test(knows_every_dtype),
        cmocka_unit_test(converts_exactly),          cmocka_unit_test(refuses_hostile_headers),
        cmocka_unit_test(refuses_every_cut),         cmocka_unit_test(names_what_is_wrong_with_a_length),
        cmocka_unit_test(an_unaligned_tensor_reads), cmocka_unit_test(no_tensors_are_fine),
        cmocka_unit_test(refuses_what_is_no_file),   cmocka_unit_test(what_was_forgotten_reads_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

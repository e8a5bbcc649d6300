/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "check.h"
#include "files.h"
#include "scratch.h"
#include "weights/safetensors.h"

static nv_st_entry vector(const char *name, const float *data, int64_t count) {
    nv_st_entry e = {.name = name, .dtype = NV_ST_F32, .rank = 1, .shape = {count}};
    e.bytes = (size_t)count * sizeof *data;
    e.data = data;
    return e;
}

/* Our writer gives the bytes that the Python package wrote. */
static void rewrites_pythons_bytes(void **state) {
    (void)state;
    const char *original = NABLA_TEST_DATA "/python.safetensors", *metadata[] = {"format", "pt"};
    nv_st_entry entries[7];
    nv_st_file *file;
    assert_int_equal(nv_st_open(original, &file, NULL), NABLA_OK);
    for (size_t i = 0; i < 7; i++) {
        entries[i] = *nv_st_at(file, 6 - i); /* the order given does not matter */
    }
    const char *path = scratch_path("copy.safetensors");
    assert_int_equal(nv_st_write(path, entries, 7, metadata, 1, NULL), NABLA_OK);
    nv_st_close(file);
    assert_same_files(original, path);
    remove(path);
}

static void many_tensors_are_found(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static char names[COUNT][24];
    static float values[COUNT];
    nv_st_entry *entries = calloc(COUNT, sizeof *entries);
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "blocks.%d.weight", (i * 7919) % COUNT);
        values[i] = (float)i;
        entries[i] = vector(names[i], &values[i], 1);
    }
    const char *path = scratch_path("many.safetensors");
    nv_st_file *file;
    assert_int_equal(nv_st_write(path, entries, COUNT, NULL, 0, NULL), NABLA_OK);
    assert_int_equal(nv_st_open(path, &file, NULL), NABLA_OK);
    assert_int_equal(nv_st_count(file), COUNT);
    for (int i = 0; i < COUNT; i++) {
        float x = -1.0f;
        const nv_st_entry *e = nv_st_find(file, names[i]);
        assert_non_null(e);
        assert_int_equal(nv_st_read_f32(e, &x, 1, NULL), NABLA_OK);
        assert_true(x == (float)i);
    }
    nv_st_close(file);
    free(entries);
    remove(path);
}

static void nothing_at_all_can_be_written(void **state) {
    (void)state;
    const char *path = scratch_path("none.safetensors");
    size_t size;
    assert_int_equal(nv_st_write(path, NULL, 0, NULL, 0, NULL), NABLA_OK);
    char *text = read_all(path, &size);
    assert_int_equal(size, 16);
    assert_memory_equal(text, "\x08\0\0\0\0\0\0\0{}      ", 16);
    free(text);
    remove(path);
}

static void check_refused(const nv_st_entry *entries, size_t count, nabla_status status, const char *message) {
    nv_error err = {0};
    assert_int_equal(nv_st_write(scratch_path("x"), entries, count, NULL, 0, &err), status);
    const char *text = strchr(err.text, ':'); /* behind the path */
    assert_non_null(text);
    assert_string_equal(text, message);
    assert_int_equal(scratch_files(), 0);
}

static void refuses_bad_entries(void **state) {
    (void)state;
    static const float x[4];
    nv_st_entry twice[] = {vector("a", x, 1), vector("b", x, 2), vector("a", x, 3)};
    check_refused(twice, 3, NABLA_INVALID_ARGUMENT, ": two tensors are named \"a\"");
    nv_st_entry e = vector("a", x, 4);
    e.bytes = 15;
    check_refused(&e, 1, NABLA_INVALID_ARGUMENT, ": tensor \"a\" needs 16 bytes by its shape, 15 were given");
    e = vector("a", NULL, 4);
    check_refused(&e, 1, NABLA_INVALID_ARGUMENT, ": tensor \"a\" needs 16 bytes by its shape, 0 were given");
    e = vector("__metadata__", x, 4);
    check_refused(&e, 1, NABLA_INVALID_ARGUMENT, ": a tensor cannot be named \"__metadata__\"");
    e = vector("a\xff", x, 4);
    check_refused(&e, 1, NABLA_INVALID_ARGUMENT, ": the tensor name \"a\xff\" is not UTF-8");
    e = vector("a", x, 4);
    e.shape[0] = -4;
    check_refused(&e, 1, NABLA_OVERFLOW, ": tensor \"a\" has a size of -4, or too many elements");
    e.rank = 9;
    check_refused(&e, 1, NABLA_INVALID_ARGUMENT, ": tensor \"a\" has dtype number 1 and 9 dimensions");
}

static void refuses_bad_metadata(void **state) {
    (void)state;
    const char *twice[] = {"a", "1", "a", "2"}, *binary[] = {"a", "\xff"};
    nv_error err;
    assert_int_equal(nv_st_write(scratch_path("x"), NULL, 0, twice, 2, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, ": the metadata \"a\" is given twice"));
    assert_int_equal(nv_st_write(scratch_path("x"), NULL, 0, binary, 1, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, ": the metadata are not all UTF-8"));
    assert_int_equal(scratch_files(), 0);
}

static void bad_places_leave_nothing(void **state) {
    (void)state;
    nv_error err;
    assert_int_equal(nv_st_write("no/such/folder.safetensors", NULL, 0, NULL, 0, &err), NABLA_IO);
    assert_string_equal(err.text, "cannot write no/such/folder.safetensors: No such file or directory");
    assert_int_equal(nv_st_write(".", NULL, 0, NULL, 0, &err), NABLA_IO);
    assert_string_equal(err.text, "cannot write .: it exists and is a folder");
    assert_int_equal(nv_st_write("/dev/null", NULL, 0, NULL, 0, &err), NABLA_IO);
    assert_string_equal(err.text, "cannot write /dev/null: it exists and is no regular file");
}

/* A limit on the size of files stands in for a full disk. The old file survives. */
static void a_full_disk_keeps_the_old_file(void **state) {
    (void)state;
    enum { COUNT = 1 << 16 };
    float *x = calloc(COUNT, sizeof *x);
    nv_st_entry small = vector("a", x, 4), large = vector("a", x, COUNT);
    const char *path = scratch_path("full.safetensors");
    nv_error err;
    struct rlimit before, limit;
    assert_int_equal(nv_st_write(path, &small, 1, NULL, 0, NULL), NABLA_OK);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1 << 14;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    nabla_status status = nv_st_write(path, &large, 1, NULL, 0, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, NABLA_IO);
    assert_non_null(strstr(err.text, "full.safetensors: File too large"));
    assert_int_equal(scratch_files(), 1);
    nv_st_file *file;
    assert_int_equal(nv_st_open(path, &file, NULL), NABLA_OK);
    assert_int_equal(nv_st_find(file, "a")->shape[0], 4);
    nv_st_close(file);
    remove(path);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewrites_pythons_bytes),         cmocka_unit_test(many_tensors_are_found),
        cmocka_unit_test(nothing_at_all_can_be_written),  cmocka_unit_test(refuses_bad_entries),
        cmocka_unit_test(refuses_bad_metadata),           cmocka_unit_test(bad_places_leave_nothing),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

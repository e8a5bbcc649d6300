/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch's checkpoints: what torch.save wrote (make_wan.py), and archives and pickles that lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "weights/set.h"
#include "zip_build.h"

static void agrees_with_safetensors(void **state) {
    (void)state;
    nv_weights *a, *b;
    nv_error err = {0};
    size_t strided = 0;
    if (nv_weights_open(NABLA_TEST_DATA "/wan/original.pth", &a, &err)) fail_msg("%s", err.text);
    assert_int_equal(nv_weights_open(NABLA_TEST_DATA "/wan/original.safetensors", &b, NULL), NABLA_OK);
    assert_int_equal(nv_weights_count(a), nv_weights_count(b));
    for (size_t i = 0; i < nv_weights_count(a); i++) {
        const nv_st_entry *x = nv_weights_at(a, i), *y = nv_weights_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->bytes, y->bytes);
        assert_int_equal(x->dtype, y->dtype);
        for (int j = 0; j < y->rank; j++)
            assert_int_equal(x->shape[j], y->shape[j]);
        void *copy = malloc(x->bytes);
        assert_int_equal(nv_st_read(x, copy, x->bytes, NULL), NABLA_OK);
        assert_memory_equal(copy, y->data, y->bytes);
        free(copy);
        strided += x->strides != NULL;
    }
    assert_int_equal(strided, 1);
    nv_weights_close(a);
    nv_weights_close(b);
}

/* ------------------------------------------------------------------ pickles by hand */

#define PROTO "\x80\x02"
#define TEXT(length, text) "X" length "\0\0\0" text
#define STORAGE(class, elements) \
    "(" TEXT("\7", "storage") "ctorch\n" class "\n" TEXT("\1", "0") TEXT("\3", "cpu") "K" elements "tQ"
#define HOOKS "ccollections\nOrderedDict\n)R"
#define TENSOR(class, elements, offset, shape, strides) \
    "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE(class, elements) "K" offset shape strides "\x89" HOOKS "tR"
#define ONE(tensor) PROTO "}" TEXT("\1", "a") tensor "s."
/* Eight fp32 numbers lie in the storage. */
#define GOOD_TENSOR TENSOR("FloatStorage", "\x08", "\1", "K\2K\3\x86", "K\3K\1\x86")

typedef struct pickle_case {
    const char *pickle;
    size_t size;
    nabla_status status;
    const char *message;
} pickle_case;
#define CASE(pickle, status, message) \
    { pickle, sizeof(pickle) - 1, status, message }

static nabla_status open_pickle(const void *pickle, size_t size, int zip64, nv_weights **w, nv_error *err,
                                unsigned char **archive) {
    static const float numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const zip_item items[] = {
        {"x/data.pkl", pickle, size, 0}, {"x/byteorder", "little", 6, 0}, {"x/data/0", numbers, sizeof numbers, 0}};
    size_t bytes;
    *archive = zip_build(items, 3, zip64, &bytes, NULL);
    return nv_weights_open_memory(*archive, bytes, "f.pth", w, err);
}

static const pickle_case accepted[] = {
    CASE(ONE(GOOD_TENSOR), NABLA_OK, ""),
    CASE(ONE("ctorch._utils\n_rebuild_parameter\n(" GOOD_TENSOR "\x88" HOOKS "tR"), NABLA_OK, ""),
    CASE(PROTO "ccollections\nOrderedDict\n)R(" TEXT("\1", "a") GOOD_TENSOR "u}" TEXT("\1", "m") "Nsb.", NABLA_OK, ""),
    CASE(PROTO "}q\0" TEXT("\1", "a") "q\1" GOOD_TENSOR "r\2\0\0\0sh\0.", NABLA_OK, ""),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\1", "\x8a\1\2M\3\0\x86", "J\3\0\0\0K\1\x86")), NABLA_OK, ""),
};

static void reads_the_forms_of_a_state_dict(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * sizeof accepted / sizeof *accepted; i++) {
        const pickle_case *c = &accepted[i / 2];
        const int64_t shape[2] = {2, 3};
        nv_weights *w;
        nv_error err = {0};
        unsigned char *archive;
        const nv_st_entry *e;
        float values[6];
        if (open_pickle(c->pickle, c->size, i % 2, &w, &err, &archive)) fail_msg("%zu: %s", i / 2, err.text);
        assert_int_equal(nv_weights_count(w), 1);
        assert_int_equal(nv_weights_get(w, "a", shape, 2, &e, NULL), NABLA_OK);
        assert_int_equal(nv_st_read_f32(e, values, 6, NULL), NABLA_OK);
        for (int j = 0; j < 6; j++)
            assert_true(values[j] == (float)(1 + j));
        nv_weights_close(w);
        free(archive);
    }
}

static void follows_strides(void **state) {
    (void)state;
    static const char pickle[] = ONE(TENSOR("FloatStorage", "\x08", "\1", "K\3K\2\x86", "K\1K\3\x86"));
    static const char halves[] = ONE(TENSOR("HalfStorage", "\x10", "\1", "K\3\x85", "K\0\x85"));
    nv_weights *w;
    unsigned char *archive;
    float values[6];
    assert_int_equal(open_pickle(pickle, sizeof pickle - 1, 0, &w, NULL, &archive), NABLA_OK);
    assert_int_equal(nv_st_read_f32(nv_weights_find(w, "a"), values, 6, NULL), NABLA_OK);
    for (int j = 0; j < 6; j++)
        assert_true(values[j] == (float)(1 + j / 2 + 3 * (j % 2)));
    nv_weights_close(w);
    free(archive);
    /* one number three times over: the upper half of 0.0f and then of nothing else */
    assert_int_equal(open_pickle(halves, sizeof halves - 1, 0, &w, NULL, &archive), NABLA_OK);
    assert_int_equal(nv_st_read_f32(nv_weights_find(w, "a"), values, 3, NULL), NABLA_OK);
    assert_true(values[0] == 0 && values[1] == 0 && values[2] == 0);
    nv_weights_close(w);
    free(archive);
}

static const pickle_case hostile[] = {
    CASE("", NABLA_CORRUPT, "is cut off"),
    CASE(PROTO ".", NABLA_CORRUPT, "needs 1 values"),
    CASE("\x80\4}.", NABLA_UNSUPPORTED, "protocol 4"),
    CASE(PROTO "cos\nsystem\n(" TEXT("\2", "ls") "tR.", NABLA_UNSUPPORTED, "asks for os.system at byte 13"),
    CASE(PROTO "c__builtin__\neval\n.", NABLA_UNSUPPORTED, "asks for __builtin__.eval"),
    CASE(PROTO "ctorch\nFloatStorag\n.", NABLA_UNSUPPORTED, "asks for torch.FloatStorag"),
    CASE(PROTO "ctorch\nFloatStorage", NABLA_CORRUPT, "is cut off"),
    CASE(PROTO "(ios\nsystem\n.", NABLA_UNSUPPORTED, "instruction 0x69 at byte 3"),
    CASE(PROTO "\x8c\2os\x8c\6system\x93.", NABLA_UNSUPPORTED, "instruction 0x8c"),
    CASE(PROTO "\x82\1.", NABLA_UNSUPPORTED, "instruction 0x82"),
    CASE(PROTO "]", NABLA_UNSUPPORTED, "instruction 0x5d"),
    CASE(PROTO ")\x81.", NABLA_UNSUPPORTED, "instruction 0x81"),
    CASE(PROTO "N.", NABLA_UNSUPPORTED, "holds a None, not a state dict"),
    CASE(PROTO GOOD_TENSOR ".", NABLA_UNSUPPORTED, "holds a tensor, not a state dict"),
    CASE(PROTO "}K\1" GOOD_TENSOR "s.", NABLA_CORRUPT, "one of its keys is no text"),
    CASE(PROTO "}" TEXT("\1", "\0") GOOD_TENSOR "s.", NABLA_CORRUPT, "one of its keys is no text"),
    CASE(PROTO "}" TEXT("\5", "epoch") "K\1s.", NABLA_UNSUPPORTED, "entry \"epoch\" is a int, not a tensor"),
    CASE(PROTO "}q\0" TEXT("\1", "a") "h\0s.", NABLA_UNSUPPORTED, "entry \"a\" is a dict"),
    CASE(PROTO "}(" TEXT("\1", "a") GOOD_TENSOR TEXT("\1", "a") GOOD_TENSOR "u.", NABLA_CORRUPT, "\"a\" twice"),
    CASE(PROTO "}" TEXT("\1", "a") "s.", NABLA_CORRUPT, "needs 3 values"),
    CASE(PROTO "}(" TEXT("\1", "a") "u.", NABLA_CORRUPT, "no pairs for a dict"),
    CASE(PROTO "(" TEXT("\1", "a") "Nu.", NABLA_CORRUPT, "no pairs for a dict"),
    CASE(PROTO "}u.", NABLA_CORRUPT, "needs a mark"),
    CASE(PROTO "}t.", NABLA_CORRUPT, "needs a mark"),
    CASE(PROTO "(.", NABLA_CORRUPT, "needs 1 values"),
    CASE(PROTO "N(\x85.", NABLA_CORRUPT, "needs 1 values"),
    CASE(PROTO "NNb.", NABLA_UNSUPPORTED, "sets the state of a None"),
    CASE(PROTO "h\0.", NABLA_CORRUPT, "memo 0 before byte 4 was never made"),
    CASE(PROTO "j\xff\xff\xff\xff.", NABLA_CORRUPT, "was never made"),
    CASE(PROTO "Nr\xff\xff\xff\xff.", NABLA_CORRUPT, "is too high"),
    CASE(PROTO "q\0.", NABLA_CORRUPT, "needs 1 values"),
    CASE(PROTO "X\xff\xff\xff\xffzz.", NABLA_CORRUPT, "is cut off"),
    CASE(PROTO "\x8a\x09zzzzzzzzz.", NABLA_CORRUPT, "has 9 bytes"),
    CASE(PROTO "NQ.", NABLA_CORRUPT, "reference to a storage"),
    CASE(PROTO ")Q.", NABLA_CORRUPT, "reference to a storage"),
    CASE(PROTO "N)R.", NABLA_CORRUPT, "the call that ends"),
    CASE(PROTO "ccollections\nOrderedDict\nNR.", NABLA_CORRUPT, "the call that ends"),
    CASE(PROTO "ccollections\nOrderedDict\nN\x85R.", NABLA_CORRUPT, "the OrderedDict that ends"),
    CASE(PROTO "ctorch\nFloatStorage\n)R.", NABLA_CORRUPT, "the call that ends"),
    CASE(PROTO "ctorch._utils\n_rebuild_tensor_v2\n)R.", NABLA_CORRUPT, "the tensor that ends"),
    CASE(PROTO "ctorch._utils\n_rebuild_parameter\nN\x85R.", NABLA_CORRUPT, "the parameter that ends"),
    CASE(ONE(TENSOR("OrderedDict", "\x08", "\0", "K\2\x85", "K\1\x85")), NABLA_UNSUPPORTED, "torch.OrderedDict"),
    CASE(ONE(TENSOR("FloatStorage", "\x09", "\0", "K\2\x85", "K\1\x85")), NABLA_CORRUPT,
         "has 32 bytes, for 9 elements"),
    CASE(ONE(TENSOR("FloatStorage", "\x07", "\0", "K\2\x85", "K\1\x85")), NABLA_CORRUPT,
         "has 32 bytes, for 7 elements"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\7", "K\2\x85", "K\1\x85")), NABLA_CORRUPT, "reaches to element 8"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\0", "K\2\x85", "K\x08\x85")), NABLA_CORRUPT, "reaches to element 8"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\0", "K\2\x85", ")")), NABLA_CORRUPT, "the tensor that ends"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\0", "J\xff\xff\xff\xff\x85", "K\1\x85")), NABLA_CORRUPT, "the tensor"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\0", "K\2\x85", "J\xff\xff\xff\xff\x85")), NABLA_CORRUPT, "the tensor"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\0", "\x8a\x08zzzzzzzz\x85", "K\0\x85")), NABLA_OVERFLOW,
         "more elements than can be"),
    CASE(ONE(TENSOR("ByteStorage", "\x20", "\0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\2\x86", "K\0K\0\x86")),
         NABLA_OVERFLOW, "more elements than can be"),
    CASE(ONE(TENSOR("FloatStorage", "\x08", "\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t")),
         NABLA_UNSUPPORTED, "has 9 dimensions"),
};

static void refuses_hostile_pickles(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        nv_weights *w;
        nv_error err = {0};
        unsigned char *archive;
        const nabla_status status = open_pickle(hostile[i].pickle, hostile[i].size, 0, &w, &err, &archive);
        if (status != hostile[i].status || !strstr(err.text, hostile[i].message))
            fail_msg("case %zu: status %d, \"%s\", not \"%s\"", i, (int)status, err.text, hostile[i].message);
        assert_null(w);
        free(archive);
    }
}

static void refuses_every_cut_of_a_pickle(void **state) {
    (void)state;
    for (size_t cut = 0; cut < accepted[0].size; cut++) {
        nv_weights *w;
        nv_error err = {0};
        unsigned char *archive;
        assert_int_equal(open_pickle(accepted[0].pickle, cut, 0, &w, &err, &archive), NABLA_CORRUPT);
        free(archive);
    }
}

/* ------------------------------------------------------------------ archives */

static void refuses_every_cut_of_an_archive(void **state) {
    (void)state;
    const zip_item items[] = {{"x/data.pkl", accepted[0].pickle, accepted[0].size, 0}, {"x/data/0", "12345678", 8, 0}};
    for (int zip64 = 0; zip64 < 2; zip64++) {
        size_t size;
        unsigned char *whole = zip_build(items, 2, zip64, &size, NULL);
        for (size_t cut = 0; cut < size; cut++) {
            nv_weights *w;
            unsigned char *exact = malloc(cut + 1); /* so that a sanitizer sees any step too far */
            memcpy(exact, whole, cut);
            assert_int_equal(nv_weights_open_memory(exact, cut, "f.pth", &w, NULL), NABLA_CORRUPT);
            free(exact);
        }
        free(whole);
    }
}

/* Byte `at` behind the directory's begin (negative: before the end) gets `value`. */
static const struct {
    int at;
    unsigned char value;
    nabla_status status;
    const char *message;
} damages[] = {
    {0, 'Q', NABLA_CORRUPT, "its zip directory breaks off"},
    {8, 1, NABLA_UNSUPPORTED, "is compressed"},
    {10, 8, NABLA_UNSUPPORTED, "is compressed"},
    {20, 1, NABLA_CORRUPT, "is stored, in another size"},
    {28, 255, NABLA_CORRUPT, "breaks off"},
    {42, 1, NABLA_CORRUPT, "no entry \"x/data.pkl\" begins at 1"},
    {45, 255, NABLA_CORRUPT, "no entry \"x/data.pkl\" begins at"},
    {46, 'y', NABLA_CORRUPT, "has another name at its data"},
    {-12, 255, NABLA_CORRUPT, "does not fit the file"},
    {-6, 255, NABLA_CORRUPT, "its zip directory"},
    {-3, 255, NABLA_CORRUPT, "does not fit the file"},
    {-2, 1, NABLA_CORRUPT, "is cut off"},
};

static void refuses_damaged_directories(void **state) {
    (void)state;
    const zip_item items[] = {{"x/data.pkl", accepted[0].pickle, accepted[0].size, 0}, {"x/data/0", "12345678", 8, 0}};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        size_t size, directory;
        nv_weights *w;
        nv_error err = {0};
        unsigned char *bytes = zip_build(items, 2, 0, &size, &directory);
        bytes[damages[i].at < 0 ? (int)size + damages[i].at : (int)directory + damages[i].at] = damages[i].value;
        const nabla_status status = nv_weights_open_memory(bytes, size, "f.pth", &w, &err);
        if (status != damages[i].status || !strstr(err.text, damages[i].message))
            fail_msg("case %zu: status %d, \"%s\", not \"%s\"", i, (int)status, err.text, damages[i].message);
        free(bytes);
    }
}

static const struct {
    zip_item items[3];
    size_t count;
    nabla_status status;
    const char *message;
} archives[] = {
    {{{"x/other", "", 0, 0}}, 1, NABLA_CORRUPT, "without data.pkl"},
    {{{"data.pkl", "", 0, 0}}, 1, NABLA_CORRUPT, "without data.pkl"},
    {{{"x/y/data.pkl", "", 0, 0}}, 1, NABLA_CORRUPT, "without data.pkl"},
    {{{"x/data.pkl", "", 0, 8}}, 1, NABLA_UNSUPPORTED, "is compressed"},
    {{{"x/data.pkl", "", 0, 0}, {"x/data.pkl", "", 0, 0}}, 2, NABLA_CORRUPT, "two entries called"},
    {{{"x/data.pkl", PROTO "}.", 4, 0}, {"x/byteorder", "big", 3, 0}}, 2, NABLA_UNSUPPORTED, "big-endian"},
    {{{"x/data.pkl", ONE(GOOD_TENSOR), sizeof ONE(GOOD_TENSOR), 0}},
     1,
     NABLA_CORRUPT,
     "storage \"0\" of tensor \"a\" is not in the archive"},
    {{{"x/data.pkl", ONE(GOOD_TENSOR), sizeof ONE(GOOD_TENSOR), 0}, {"x/data/0", "", 0, 8}},
     2,
     NABLA_UNSUPPORTED,
     "is compressed"},
};

static void refuses_archives_of_other_kinds(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof archives / sizeof *archives; i++) {
        size_t size;
        nv_weights *w;
        nv_error err = {0};
        unsigned char *bytes = zip_build(archives[i].items, archives[i].count, 0, &size, NULL);
        const nabla_status status = nv_weights_open_memory(bytes, size, "f.pth", &w, &err);
        if (status != archives[i].status || !strstr(err.text, archives[i].message))
            fail_msg("case %zu: status %d, \"%s\", not \"%s\"", i, (int)status, err.text, archives[i].message);
        free(bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_safetensors),
        cmocka_unit_test(reads_the_forms_of_a_state_dict),
        cmocka_unit_test(follows_strides),
        cmocka_unit_test(refuses_hostile_pickles),
        cmocka_unit_test(refuses_every_cut_of_a_pickle),
        cmocka_unit_test(refuses_every_cut_of_an_archive),
        cmocka_unit_test(refuses_damaged_directories),
        cmocka_unit_test(refuses_archives_of_other_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

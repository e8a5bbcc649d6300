/* SPDX-License-Identifier: Apache-2.0 */
/* The text encoder against transformers: tokens, contexts in fp32 and bf16, every layout of files, and what it refuses.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "nabla/video.h"
#include "text/tokenizer.h"
#include "text/umt5.h"
#include "weights/safetensors.h"

#define WAN NABLA_TEST_DATA "/umt5/wan"
#define ORIGINAL NABLA_TEST_DATA "/umt5/original"
#define WAN_WEIGHTS WAN "/text_encoder/model.safetensors.index.json"
#define ORIGINAL_WEIGHTS ORIGINAL "/models_t5_umt5-xxl-enc-bf16.pth"
#define COMFY NABLA_TEST_DATA "/umt5/comfy.safetensors"

enum { MOST_PROMPTS = 16 };

typedef struct goldens {
    nv_st_file *file;
    int32_t count;
    const int32_t *ids[MOST_PROMPTS];
    nv_umt5_text texts[MOST_PROMPTS];
} goldens;

static const nv_st_entry *golden(const goldens *g, const char *kind, int32_t i) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d", kind, (int)i);
    const nv_st_entry *e = nv_st_find(g->file, name);
    if (!e) fail_msg("no tensor %s", name);
    return e;
}

static goldens open_goldens(void) {
    goldens g = {0};
    GOOD(nv_st_open(NABLA_TEST_DATA "/umt5.safetensors", &g.file, why));
    g.count = atoi(nv_st_metadata(g.file, "count"));
    assert_in_range(g.count, 1, MOST_PROMPTS);
    for (int32_t i = 0; i < g.count; i++) {
        const nv_st_entry *e = golden(&g, "ids", i);
        int32_t *ids = malloc(e->bytes);
        assert_non_null(ids);
        memcpy(ids, e->data, e->bytes);
        g.texts[i] = (nv_umt5_text){ids, (int32_t)e->shape[0], calloc((size_t)e->shape[0], 32 * sizeof(float))};
        g.ids[i] = ids;
    }
    return g;
}

static void close_goldens(goldens *g) {
    for (int32_t i = 0; i < g->count; i++) {
        free((void *)(uintptr_t)g->ids[i]);
        free(g->texts[i].context);
    }
    nv_st_close(g->file);
}

/* ||a - b|| / ||b|| over the rows that the golden keeps of a prompt's context. */
static double distance(const goldens *g, int32_t i, const float *a, const char *kind) {
    const nv_st_entry *e = golden(g, kind, i), *exact = golden(g, "context", i);
    const size_t n = (size_t)(e->shape[0] * e->shape[1]), dim = (size_t)e->shape[1];
    const size_t step = e->shape[0] == g->texts[i].count ? 1 : 64;
    float *b = malloc(n * sizeof *b), *r = malloc(n * sizeof *r);
    double difference = 0, norm = 0;
    GOOD(nv_st_read_f32(exact, b, n, why));
    GOOD(nv_st_read_f32(e, r, n, why));
    for (size_t k = 0; k < n; k++) {
        const double have = (double)(a ? a[k / dim * step * dim + k % dim] : r[k]);
        difference += (have - (double)b[k]) * (have - (double)b[k]);
        norm += (double)b[k] * (double)b[k];
    }
    free(b);
    free(r);
    return sqrt(difference / norm);
}

static void encode(const char *weights, const char *config, nabla_dtype compute, int32_t threads, const char *level,
                   const goldens *g, int32_t first, int32_t count) {
    const nv_umt5_job job = {.texts = g->texts + first, .count = count, .compute = compute};
    nv_device *dev;
    nv_umt5 *m;
    GOOD(test_device_create(threads, level, &dev, why));
    GOOD(nv_umt5_open(weights, config, &m, why));
    GOOD(nv_umt5_encode(m, dev, &job, why));
    nv_umt5_close(m);
    nv_device_destroy(dev);
}

static void agrees_with_transformers(void **state) {
    (void)state;
    static const char *const files[] = {WAN_WEIGHTS, ORIGINAL_WEIGHTS, COMFY};
    goldens g = open_goldens();
    for (int f = 0; f < 3; f++)
        for (int level = 0; test_level(level); level++) {
            encode(files[f], f ? NULL : WAN "/text_encoder/config.json", NABLA_FP32, 2, test_level(level), &g, 0,
                   g.count);
            for (int32_t i = 0; i < g.count; i++) {
                const double d = distance(&g, i, g.texts[i].context, "context");
                if (!(d < 1e-5)) fail_msg("%s, %s, prompt %d: %.3g away", files[f], test_level(level), (int)i, d);
                if (f == 0 && !test_level(level + 1)) print_message("prompt %d: fp32 %.2e\n", (int)i, d);
            }
        }
    close_goldens(&g);
}

/* No further from fp32 than transformers' own bf16: with matrices that are copied, as files have them one column after
   the other, and with those that are used in place. */
static void bf16_is_no_worse_than_transformers(void **state) {
    (void)state;
    static const char *const files[] = {ORIGINAL_WEIGHTS, COMFY};
    goldens g = open_goldens();
    for (int f = 0; f < 2; f++) {
        encode(files[f], NULL, NABLA_BF16, 2, NULL, &g, 0, g.count);
        for (int32_t i = 0; i < g.count; i++) {
            const double ours = distance(&g, i, g.texts[i].context, "context"),
                         theirs = distance(&g, i, NULL, "context_bf16");
            if (!(ours <= 1.5 * theirs))
                fail_msg("%s, prompt %d: %.3g away, transformers %.3g", files[f], (int)i, ours, theirs);
            print_message("prompt %d: bf16 %.2e, transformers %.2e\n", (int)i, ours, theirs);
        }
    }
    close_goldens(&g);
}

static size_t memory_of(const char *weights, nabla_dtype compute) {
    const int32_t id = 1;
    const nv_umt5_text text = {&id, 1, NULL};
    const nv_umt5_job job = {.texts = &text, .count = 1, .compute = compute};
    nv_device *dev;
    nv_umt5 *m;
    size_t bytes;
    GOOD(test_device_create(1, test_level(0), &dev, why)); /* tiles have a least size, more than all this takes */
    GOOD(nv_umt5_open(weights, NULL, &m, why));
    GOOD(nv_umt5_memory(m, dev, &job, &bytes, why));
    nv_umt5_close(m);
    nv_device_destroy(dev);
    return bytes;
}

/* A layer's matrices, 2 x (4 x 24 x 32 + 3 x 32 x 40) bytes of bf16, are only held where they are not used in place. */
static void knows_its_memory(void **state) {
    (void)state;
    const size_t matrices = 2 * (4 * 24 * 32 + 3 * 32 * 40), copied = memory_of(ORIGINAL_WEIGHTS, NABLA_BF16),
                 in_place = memory_of(COMFY, NABLA_BF16);
    assert_true(copied < memory_of(ORIGINAL_WEIGHTS, NABLA_FP32));
    if (test_on_gpu())
        assert_int_equal(in_place, copied);
    else
        assert_int_equal(in_place, copied - matrices);
}

/* Texts do not see each other. (Bits may differ with the number of threads, where oneDNN's products do.) */
static void texts_stand_alone(void **state) {
    (void)state;
    goldens together = open_goldens(), alone = open_goldens();
    encode(COMFY, NULL, NABLA_FP32, 3, NULL, &together, 0, together.count);
    for (int32_t i = 0; i < alone.count; i++) {
        encode(COMFY, NULL, NABLA_FP32, 1, NULL, &alone, i, 1);
        const float *a = alone.texts[i].context, *b = together.texts[i].context;
        for (size_t k = 0; k < (size_t)alone.texts[i].count * 32; k++)
            assert_true(fabsf(a[k] - b[k]) <= 1e-4f);
    }
    close_goldens(&together);
    close_goldens(&alone);
}

static void reads_sizes(void **state) {
    (void)state;
    nv_umt5 *m;
    GOOD(nv_umt5_open(ORIGINAL_WEIGHTS, NULL, &m, why));
    const nv_umt5_config *c = nv_umt5_get_config(m);
    assert_int_equal(c->dim, 32);
    assert_int_equal(c->heads, 3);
    assert_int_equal(c->head_dim, 8);
    assert_int_equal(c->ffn_dim, 40);
    assert_int_equal(c->layers, 2);
    nv_umt5_close(m);
}

static void expect_open_failure(const char *weights, const char *config, nabla_status wanted, const char *word) {
    nv_umt5 *m;
    nv_error err = {0};
    assert_int_equal(nv_umt5_open(weights, config, &m, &err), wanted);
    assert_null(m);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static int cancel(void *user, int32_t layer, int32_t layers) {
    assert_int_equal(layers, 2);
    return layer == *(int32_t *)user;
}

static void refuses_what_cannot_work(void **state) {
    (void)state;
    goldens g = open_goldens();
    nv_umt5 *m;
    nv_device *dev;
    nv_error err = {0};
    int32_t ids[] = {5, 100000}, layer = 1;
    float context[64];
    const nv_umt5_text text = {ids, 2, context};
    nv_umt5_job job = {.texts = &text, .count = 1, .compute = NABLA_FP32};
    expect_open_failure(NABLA_TEST_DATA "/dit_sta.safetensors", NULL, NABLA_CORRUPT, "shared.weight");
    expect_open_failure(WAN "/text_encoder/model-00001-of-00002.safetensors", NULL, NABLA_CORRUPT, "shared.weight");
    expect_open_failure("nowhere.safetensors", NULL, NABLA_IO, "nowhere");
    expect_open_failure(COMFY, WAN "/text_encoder/none.json", NABLA_IO, "none.json");
    expect_open_failure(COMFY, NABLA_TEST_DATA "/umt5/wan/model_index.json.none", NABLA_IO, "model_index");
    GOOD(test_device_create(0, NULL, &dev, why));
    GOOD(nv_umt5_open(COMFY, NULL, &m, why));
    assert_int_equal(nv_umt5_encode(m, dev, &job, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "100000"));
    ids[1] = 1;
    job.compute = NABLA_FP16;
    assert_int_equal(nv_umt5_encode(m, dev, &job, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "fp16"));
    job.compute = NABLA_FP32;
    job.progress = cancel;
    job.user = &layer;
    assert_int_equal(nv_umt5_encode(m, dev, &job, &err), NABLA_CANCELLED);
    nv_umt5_close(m);
    nv_device_destroy(dev);
    close_goldens(&g);
}

/* ------------------------------------------------------------------ the tokenizer */

static void tokenizes_as_the_reference(void **state) {
    (void)state;
    if (!nv_tokenizer_available()) {
        print_message("skipped: this build has no SentencePiece\n");
        return;
    }
    goldens g = open_goldens();
    nv_tokenizer *t;
    nv_tokens tokens;
    char key[32], *cleaned;
    GOOD(nv_tokenizer_read(WAN "/tokenizer/spiece.model", &t, why));
    for (int32_t i = 0; i < g.count; i++) {
        snprintf(key, sizeof key, "prompt.%d", (int)i);
        GOOD(nv_tokenize(t, nv_st_metadata(g.file, key), &tokens, &cleaned, why));
        assert_int_equal(tokens.count, g.texts[i].count);
        assert_memory_equal(tokens.ids, g.texts[i].ids, (size_t)tokens.count * sizeof *tokens.ids);
        assert_int_equal(tokens.cut > 0, tokens.count == NV_TEXT_LENGTH);
        assert_int_equal(tokens.ids[tokens.count - 1], 1);
        free(cleaned);
    }
    nv_error err = {0};
    assert_int_equal(nv_tokenize(t, "caf\xe9", &tokens, &cleaned, &err), NABLA_INVALID_ARGUMENT);
    assert_null(cleaned);
    nv_tokenizer_destroy(t);
    close_goldens(&g);
}

static void refuses_other_tokenizers(void **state) {
    (void)state;
    if (!nv_tokenizer_available()) return;
    nv_tokenizer *t;
    nv_error err = {0};
    assert_int_equal(nv_tokenizer_read(WAN "/model_index.json", &t, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "no SentencePiece model"));
    assert_int_equal(nv_tokenizer_create("", 0, "nothing", &t, &err), NABLA_CORRUPT);
    assert_int_equal(nv_tokenizer_read("nowhere.model", &t, &err), NABLA_IO);
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_transformers),   cmocka_unit_test(bf16_is_no_worse_than_transformers),
        cmocka_unit_test(texts_stand_alone),          cmocka_unit_test(reads_sizes),
        cmocka_unit_test(knows_its_memory),           cmocka_unit_test(refuses_what_cannot_work),
        cmocka_unit_test(tokenizes_as_the_reference), cmocka_unit_test(refuses_other_tokenizers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is made with a trained model: videos, and figures about them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "device/device.h"
#include "files.h"
#include "media/media.h"
#include "tiny_model.h"
#include "video/profile.h"

/* The model that all of these use. */
static void a_model(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("whole"));
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
}

/* ------------------------------------------------------------------ generate */

static nabla_generate_options prompt(const char *model) {
    nabla_generate_options o = nabla_generate_options_default();
    o.model = model;
    o.prompt = "a red circle moving right";
    o.seed = 3;
    return o;
}

static nabla_status generate(const nabla_generate_options *o, nabla_generate_result *result, nabla_video_error *err) {
    nabla_video_machine machine = machine_of(NULL, NULL);
    return nabla_generate(o, &machine, result, err);
}

static void generates_pictures(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_result result = {.size = sizeof result};
    nabla_generate_options o = prompt(at("whole"));
    o.output = at("frames/");
    o.mask_png = at("mask.png");
    o.preview = at("preview");
    o.preview_every = 2;
    o.save_latent = at("latent.safetensors");
    if (generate(&o, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(access(at("frames/frame-0001.png"), F_OK), 0);
    assert_int_equal(access(at("frames/frame-0002.png"), F_OK), 0);
    assert_int_equal(access(at("mask.png"), F_OK), 0);
    assert_int_equal(access(at("preview/step-0002.png"), F_OK), 0);
    assert_string_equal(result.policy, "nabla-0.8");
    assert_string_equal(result.warning, "");
    assert_int_equal(result.width, WIDTH);
    assert_int_equal(result.steps, 3);
    assert_true(result.sparsity >= 0.0 && result.sparsity < 1.0);
}

/* Parts take turns: together they are the call, and none is more than itself. */
static void a_profile_adds_up(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_video_profile profile = {.size = sizeof profile};
    nabla_video_machine machine = machine_of(NULL, NULL);
    nabla_generate_options o = prompt(at("whole"));
    double sum = 0;
    o.output = at("profiled/");
    machine.profile = &profile;
    const double begin = nv_now();
    if (nabla_generate(&o, &machine, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    const double took = nv_now() - begin;
    for (int i = 0; i < NABLA_PARTS; i++) {
        const nabla_video_part_time *t = &profile.part[i];
        assert_non_null(nabla_video_part_name((nabla_video_part)i));
        assert_true(t->seconds >= -1e-9);
        assert_true(t->products_s + t->attention_s + t->plan_s <= t->seconds + 1e-4); /* of two clocks on a GPU */
        sum += t->seconds;
    }
    assert_null(nabla_video_part_name(NABLA_PARTS));
    assert_true(sum <= took && sum > 0.9 * took - 1e-3);
    const nabla_video_part_time *transformer = &profile.part[NABLA_PART_TRANSFORMER];
    assert_true(transformer->products_s > 0 && transformer->product_flop > 0);
    assert_true(transformer->attention_s > 0 && transformer->attention_flop > 0);
    assert_true(profile.part[NABLA_PART_MEDIA].seconds > 0);
    assert_true(profile.part[NABLA_PART_OPTIMIZER].seconds == 0);
    profile.size--;
    assert_int_equal(nabla_generate(&o, &machine, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "nabla_video_profile"));
}

/* A pass leaves the part that queued it, with its wait for offloaded weights; what was done beside it stays there. */
static void a_pass_is_shared_out(void **state) {
    (void)state;
    nabla_video_profile profile = {.size = sizeof profile, .now = NABLA_PART_SAMPLER};
    const nabla_video_machine machine = {.compute = NABLA_BF16, .profile = &profile};
    const nv_dit_stats pass = {.plan_s = 1,
                               .attention_s = 2,
                               .products_s = 4,
                               .other_s = 8,
                               .weights_s = 16,
                               .update_s = 32,
                               .product_flop = 64,
                               .attention_flop = 128};
    profile.part[NABLA_PART_SAMPLER].seconds = 100;
    nv_profile_pass(&machine, &pass);
    const nabla_video_part_time *t = &profile.part[NABLA_PART_TRANSFORMER];
    assert_true(t->seconds == 15 && t->plan_s == 1 && t->attention_s == 2 && t->products_s == 4);
    assert_true(t->product_flop == 64 && t->attention_flop == 128 && t->compute == NABLA_BF16);
    assert_true(profile.part[NABLA_PART_WAIT].seconds == 16);
    assert_true(profile.part[NABLA_PART_SAMPLER].seconds == 100 - 15 - 16);
}

/* Noise from a file gives what its seed gave; another policy or no guidance gives something else. */
static void generates_the_same_again(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_options o = prompt(at("whole"));
    o.save_latent = at("again.safetensors");
    if (generate(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    size_t size, size_again;
    char *first = read_all(at("latent.safetensors"), &size);
    char *again = read_all(at("again.safetensors"), &size_again);
    assert_int_equal(size, size_again);
    assert_memory_equal(first, again, size);
    free(again);
    o.guidance = 1.0f;
    if (generate(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    again = read_all(at("again.safetensors"), &size_again);
    assert_int_equal(size, size_again);
    assert_memory_not_equal(first, again, size);
    free(first);
    free(again);
}

static void generates_videos(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_options o = prompt(at("whole"));
    if (!nv_media_available()) skip();
    for (int i = 0; i < 2; i++) {
        o.output = at(i ? "clip.mp4" : "clip.gif");
        if (generate(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
        assert_int_equal(access(o.output, F_OK), 0);
    }
}

static int refuse_at_once(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)user;
    (void)phase;
    (void)done;
    (void)total;
    (void)note;
    return 1;
}

static void cancelled_generation_leaves_nothing(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_options o = prompt(at("whole"));
    nabla_video_machine machine = machine_of(refuse_at_once, NULL);
    o.output = at("cancelled-frames/");
    assert_int_equal(nabla_generate(&o, &machine, NULL, &err), NABLA_CANCELLED);
    assert_int_not_equal(access(o.output, F_OK), 0);
}

static void unknown_words_warn(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_result result = {.size = sizeof result};
    nabla_generate_options o = prompt(at("whole"));
    o.prompt = "a rde circle and a dog";
    if (generate(&o, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_non_null(strstr(result.warning, "rde (red?)"));
    assert_non_null(strstr(result.warning, "dog"));
}

static void refuse_generate(const nabla_generate_options *o, nabla_status expected, const char *word) {
    nabla_video_error err = {0};
    nabla_generate_result result = {.size = sizeof result};
    nabla_status status = generate(o, &result, &err);
    expect_refusal(status, &err, expected, word);
}

static void bad_generation(void **state) {
    (void)state;
    nabla_generate_options o = prompt(at("nowhere"));
    refuse_generate(&o, NABLA_IO, "nowhere");
    o = prompt(at("whole"));
    o.prompt = NULL;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "prompt");
    o = prompt(at("whole"));
    o.width = 26;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "26x16");
    o = prompt(at("whole"));
    o.frames = -3;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "-3 frames");
    o = prompt(at("whole"));
    o.policy = "sparse";
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "sparse");
    o = prompt(at("whole"));
    o.solver = "heun";
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "heun");
    o = prompt(at("whole"));
    o.guidance = NAN;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "guidance");
    o = prompt(at("whole"));
    o.init_noise = at("latent.safetensors"); /* holds no tensor "noise" */
    refuse_generate(&o, NABLA_CORRUPT, "noise");
    o = prompt(at("whole"));
    o.output = at("clip.xyz");
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "xyz");
    o = prompt(at("whole"));
    o.frames = 64;
    o.width = o.height = 4096;
    refuse_generate(&o, NABLA_OUT_OF_MEMORY, "GB");
}

static void foreign_models(void **state) {
    (void)state;
    mkdir(at("foreign"), 0777);
    FILE *file = fopen(at("foreign/model_index.json"), "w");
    assert_non_null(file);
    fputs("{\"_class_name\": \"HunyuanVideoPipeline\"}", file);
    fclose(file);
    nabla_generate_options o = prompt(at("foreign"));
    refuse_generate(&o, NABLA_UNSUPPORTED, "HunyuanVideoPipeline");
    file = fopen(at("foreign/model_index.json"), "w");
    fputs("{\"_class_name\":", file);
    fclose(file);
    refuse_generate(&o, NABLA_CORRUPT, "model_index.json");
}

/* ------------------------------------------------------------------ evaluate */

static void evaluates(void **state) {
    (void)state;
    nabla_video_error err = {0};
    uint8_t dense[6], sparse[6];
    nabla_eval_options o = nabla_eval_options_default();
    nabla_eval_result result = {.size = sizeof result, .right = sparse};
    nabla_video_machine machine = machine_of(NULL, NULL);
    o.model = at("whole");
    o.prompts = 6;
    if (nabla_evaluate(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(result.prompts, 6);
    assert_true(result.colour >= 0.0 && result.colour <= 1.0 && result.seconds > 0.0);
    result.right = dense;
    o.policy = "dense";
    if (nabla_evaluate(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_true(result.sparsity == 0.0);
    nabla_eval_difference d = nabla_eval_compare(sparse, dense, 6, 7);
    assert_true(d.low < d.high);
}

static void compares_pairs(void **state) {
    (void)state;
    uint8_t a[100] = {0}, b[100] = {0};
    for (int i = 0; i < 100; i++) {
        a[i] = i < 60 ? 1 : 0;           /* 60 right */
        b[i] = i >= 5 && i < 80 ? 1 : 0; /* 75 right: 20 gained, 5 lost */
    }
    nabla_eval_difference d = nabla_eval_compare(a, b, 100, 1);
    assert_true(fabs(d.difference - 0.15) < 1e-12);
    /* centre 15/102, spread 1.96 sqrt(26 - 15^2/102) / 102 */
    assert_true(fabs(d.low - 0.0536) < 1e-3 && fabs(d.high - 0.2406) < 1e-3);
    d = nabla_eval_compare(a, a, 100, 1);
    assert_true(d.difference == 0.0 && d.low < 0.0 && d.high > 0.0);
}

int main(void) {
    if (tiny_make()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model),
        cmocka_unit_test(generates_pictures),
        cmocka_unit_test(a_profile_adds_up),
        cmocka_unit_test(a_pass_is_shared_out),
        cmocka_unit_test(generates_the_same_again),
        cmocka_unit_test(generates_videos),
        cmocka_unit_test(cancelled_generation_leaves_nothing),
        cmocka_unit_test(unknown_words_warn),
        cmocka_unit_test(bad_generation),
        cmocka_unit_test(foreign_models),
        cmocka_unit_test(evaluates),
        cmocka_unit_test(compares_pairs),
    };
    int failed = cmocka_run_group_tests_name("generation", tests, NULL, NULL);
    tiny_remove();
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling that stops between two steps: by a signal and taken up again, or for good where numbers run away. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "device.h"
#include "files.h"
#include "tiny_model.h"
#include "weights/safetensors.h"

static const char *const solvers[] = {"unipc", "dpm++", "euler"};
static char whole[512], saved[512]; /* the model, the checkpoint */

static void a_model(void **state) {
    (void)state;
    snprintf(whole, sizeof whole, "%s", at("whole"));
    snprintf(saved, sizeof saved, "%s", at("state.safetensors"));
    nabla_video_error err = {0};
    nabla_train_options o = tiny(whole);
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
}

static nabla_generate_options prompt(void) {
    nabla_generate_options o = nabla_generate_options_default();
    o.model = whole;
    o.prompt = "a red circle moving right";
    o.seed = 3;
    o.steps = 5;
    return o;
}

/* Cancels after the step that `user` points to; never at 0. (It is asked between layers too.) */
static int stop_after(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)total;
    (void)note;
    return strcmp(phase, "sample") == 0 && done > 0 && done == *(const int *)user;
}

static nabla_status generate(const nabla_generate_options *o, int stop, nabla_generate_result *result,
                             nabla_video_error *err) {
    nabla_video_machine machine = machine_of(stop_after, &stop);
    return nabla_generate(o, &machine, result, err);
}

static void make(const nabla_generate_options *o, nabla_generate_result *result) {
    nabla_video_error err = {0};
    if (generate(o, 0, result, &err) != NABLA_OK) fail_msg("%s", err.text);
}

static void make_until(const nabla_generate_options *o, int stop) {
    nabla_video_error err = {0};
    expect_refusal(generate(o, stop, NULL, &err), &err, NABLA_CANCELLED, o->checkpoint ? o->checkpoint : o->resume);
}

static void refuse(const nabla_generate_options *o, nabla_status expected, const char *word) {
    nabla_video_error err = {0};
    expect_refusal(generate(o, 0, NULL, &err), &err, expected, word);
}

/* ------------------------------------------------------------------ going on */

/* Stops after a step, and again after the next where there are more; the end must be alone's, bit for bit. */
static void check_resumed(const nabla_generate_options *settings, int stop, const nabla_generate_result *alone) {
    nabla_generate_result result = {.size = sizeof result};
    nabla_generate_options o = *settings, rest = nabla_generate_options_default();
    int last = stop + 1 < o.steps ? stop + 1 : stop;
    o.checkpoint = saved;
    make_until(&o, stop);
    rest.model = o.model;
    rest.seed = o.seed;
    rest.resume = saved;
    rest.save_latent = at("resumed.safetensors");
    if (last > stop) make_until(&rest, last);
    assert_int_not_equal(access(rest.save_latent, F_OK), 0);
    make(&rest, &result);
    assert_same_files(at("alone.safetensors"), rest.save_latent);
    assert_int_equal(result.resumed_steps, last);
    assert_string_equal(result.solver, alone->solver);
    assert_true(result.sparsity == alone->sparsity);
    remove(rest.save_latent);
}

static void make_alone(const nabla_generate_options *settings, nabla_generate_result *alone) {
    nabla_generate_options o = *settings;
    o.save_latent = at("alone.safetensors");
    make(&o, alone);
    assert_int_equal(alone->resumed_steps, 0);
}

static void goes_on_to_the_same_bits(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        nabla_generate_result alone = {.size = sizeof alone};
        nabla_generate_options o = prompt();
        o.solver = solvers[k];
        o.negative = "a blue star";
        o.dense_steps = 2;
        make_alone(&o, &alone);
        for (int stop = 1; stop <= 5; stop++)
            check_resumed(&o, stop, &alone);
    }
}

static void bundled_model_goes_on(void **state) {
    (void)state;
    nabla_generate_result alone = {.size = sizeof alone};
    nabla_generate_options o = prompt();
    o.model = NABLA_TEST_DATA "/../../models/demo";
    o.width = o.height = 64;
    o.frames = 4;
    o.steps = 4;
    o.solver = "unipc";
    make_alone(&o, &alone);
    check_resumed(&o, 2, &alone);
}

/* Writing them leaves the clip as it is; a run that is at its end can still be written out. */
static void checkpoints_change_nothing(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.save_latent = at("plain.safetensors");
    make(&o, NULL);
    o.save_latent = at("checkpointed.safetensors");
    o.checkpoint = saved;
    make(&o, NULL);
    assert_same_files(at("plain.safetensors"), o.save_latent);
    o.resume = o.checkpoint; /* all steps are done: what is left is to write files */
    o.save_latent = at("written-again.safetensors");
    make(&o, NULL);
    assert_same_files(at("plain.safetensors"), o.save_latent);
    o.mask_png = at("no-mask.png");
    refuse(&o, NABLA_INVALID_ARGUMENT, "mask");
}

/* A run that goes on with other threads says so; with the same, or one that begins, it says nothing. */
static void another_machine_is_told(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(NULL, NULL);
    nabla_generate_result result = {.size = sizeof result};
    nabla_generate_options o = prompt();
    if (test_on_gpu()) skip(); /* whose bits do not depend on threads */
    o.checkpoint = at("elsewhere.safetensors");
    make_until(&o, 2);
    o.resume = o.checkpoint;
    make(&o, &result);
    assert_string_equal(result.warning, "");
    machine.threads = 1;
    if (nabla_generate(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_memory_equal(result.warning, "the run so far was made on cpu, level ", 38);
    assert_non_null(strstr(result.warning, ", 2 threads, products by "));
    assert_non_null(strstr(result.warning, ", 1 threads, products by "));
    assert_non_null(strstr(result.warning, ": bits may differ from those of a run left alone"));
}

/* ------------------------------------------------------------------ refusals */

static void refuses_other_settings(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.checkpoint = saved;
    make_until(&o, 2);
    o.checkpoint = NULL;
    o.resume = saved;
    const nabla_generate_options same = o;
    o.prompt = "a blue circle";
    refuse(&o, NABLA_INVALID_ARGUMENT, "prompt \"a red circle moving right\", this run asks for \"a blue circle\"");
    o = same, o.negative = "a star";
    refuse(&o, NABLA_INVALID_ARGUMENT, "negative");
    o = same, o.seed = 4;
    refuse(&o, NABLA_INVALID_ARGUMENT, "seed \"3\"");
    o = same, o.steps = 6;
    refuse(&o, NABLA_INVALID_ARGUMENT, "steps \"5\"");
    o = same, o.solver = "unipc";
    refuse(&o, NABLA_INVALID_ARGUMENT, "solver \"euler\"");
    o = same, o.policy = "dense";
    refuse(&o, NABLA_INVALID_ARGUMENT, "policy");
    o = same, o.dense_steps = 1;
    refuse(&o, NABLA_INVALID_ARGUMENT, "dense_steps");
    o = same, o.guidance = 2.5f;
    refuse(&o, NABLA_INVALID_ARGUMENT, "guidance");
    o = same, o.shift = 2.0f;
    refuse(&o, NABLA_INVALID_ARGUMENT, "shift");
    o = same, o.width = 2 * WIDTH;
    refuse(&o, NABLA_INVALID_ARGUMENT, "width");
    o = same, o.init_noise = "noise.safetensors";
    refuse(&o, NABLA_INVALID_ARGUMENT, "noise");
}

/* Who forgets to say that the run shall go on does not lose it. */
static void keeps_a_stopped_run(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.checkpoint = saved;
    refuse(&o, NABLA_INVALID_ARGUMENT, "stopped after step 2 of 5");
    o.checkpoint = at("second.safetensors");
    make_until(&o, 3);
    o.resume = saved; /* which is another run than the one that stopped there */
    refuse(&o, NABLA_INVALID_ARGUMENT, "second.safetensors keeps a run that stopped after step 3 of 5");
    remove(o.checkpoint);
}

static void refuses_another_model_or_type(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options other = tiny(at("other"));
    other.seed = 6;
    other.steps = 1;
    if (train(&other, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    nabla_generate_options o = prompt();
    o.resume = saved;
    o.model = at("other");
    refuse(&o, NABLA_INVALID_ARGUMENT, "another model");
    nabla_video_machine machine = machine_of(NULL, NULL);
    machine.compute = NABLA_FP32;
    o = prompt();
    o.resume = saved;
    expect_refusal(nabla_generate(&o, &machine, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "dtype \"bf16\"");
}

/* Copies state.safetensors with one text of its header in place of another as long. */
static const char *forge(const char *from, const char *to) {
    size_t size;
    const char *path = at("forged.safetensors");
    char *data = read_all(saved, &size), *found = NULL;
    for (size_t i = 0; i + strlen(from) < size && !found; i++)
        if (memcmp(data + i, from, strlen(from)) == 0) found = data + i;
    assert_non_null(found);
    memcpy(found, to, strlen(to));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(data, 1, size, file);
    fclose(file);
    free(data);
    return path;
}

static void refuses_what_is_no_checkpoint(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.resume = at("nowhere.safetensors");
    refuse(&o, NABLA_IO, "nowhere");
    o.resume = at("plain.safetensors");
    refuse(&o, NABLA_CORRUPT, "no checkpoint");
    o.resume = forge("\"steps_done\":\"2\"", "\"steps_done\":\"9\"");
    refuse(&o, NABLA_CORRUPT, "\"9\" steps");
    o.resume = forge("\"steps_done\":\"2\"", "\"steps_done\":\"x\"");
    refuse(&o, NABLA_CORRUPT, "\"x\" steps");
    o.resume = forge("\"latent\":", "\"patent\":");
    refuse(&o, NABLA_CORRUPT, "latent");
    o.resume = forge("\"shift\":", "\"shaft\":");
    refuse(&o, NABLA_CORRUPT, "shift");
    o.resume = forge("\"width\":\"24\"", "\"width\":\"2x\"");
    refuse(&o, NABLA_INVALID_ARGUMENT, "width");
}

static void a_bad_place_shows_at_once(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.checkpoint = at("no/where.safetensors");
    o.save_latent = at("never.safetensors");
    refuse(&o, NABLA_IO, "no/where");
    assert_int_not_equal(access(o.save_latent, F_OK), 0);
}

/* ------------------------------------------------------------------ numbers that run away */

static void write_noise(const char *path, float last) {
    float noise[3 * FRAMES * HEIGHT * WIDTH] = {0};
    noise[sizeof noise / sizeof *noise - 1] = last;
    nv_st_entry e = {.name = "noise", .dtype = NV_ST_F32, .rank = 4, .shape = {3, FRAMES, HEIGHT, WIDTH}};
    e.bytes = sizeof noise;
    e.data = noise;
    assert_int_equal(nv_st_write(path, &e, 1, NULL, 0, NULL), NABLA_OK);
}

/* Puts `size` bytes at the end of a file in place of its own. */
static void spoil(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)size, SEEK_END), 0);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static int never(void *user, const nabla_generate_result *settled) {
    (void)user;
    (void)settled;
    fail_msg("it would begin");
    return 1;
}

static void what_is_no_noise_shows_at_once(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.begin = never;
    o.init_noise = at("plain.safetensors"); /* a latent */
    refuse(&o, NABLA_CORRUPT, "plain.safetensors must hold a tensor \"noise\" of fp32 [3, ");
    o.init_noise = at("long.safetensors");
    write_noise(o.init_noise, 0);
    o.frames = 2 * FRAMES;
    refuse(&o, NABLA_CORRUPT, "long.safetensors must hold a tensor \"noise\" of fp32 [3, ");
}

static void nan_stops_at_its_step(void **state) {
    (void)state;
    nabla_generate_options o = prompt();
    o.output = at("spoilt-frames/");
    o.save_latent = at("spoilt.safetensors");
    o.init_noise = at("noise.safetensors");
    write_noise(o.init_noise, NAN);
    refuse(&o, NABLA_CORRUPT, "noise.safetensors holds values that are no numbers");
    o.init_noise = NULL;
    static const unsigned char nan[2] = {0xff, 0x7f}; /* bf16 */
    spoil(at("other/transformer/diffusion_pytorch_model.safetensors"), nan, sizeof nan);
    o.model = at("other");
    for (int k = 0; k < 3; k++) {
        o.solver = solvers[k];
        refuse(&o, NABLA_INTERNAL, "step 1 of 5 left values that are no numbers");
        assert_int_not_equal(access(o.output, F_OK), 0);
        assert_int_not_equal(access(o.save_latent, F_OK), 0);
    }
}

/* In the middle, from a latent that is too large to go on: the checkpoint stays at the last good step. */
static void nan_keeps_the_checkpoint(void **state) {
    (void)state;
    static const float huge = 3e38f;
    nabla_generate_options o = prompt();
    nv_st_file *file;
    o.checkpoint = at("huge.safetensors");
    make_until(&o, 2);
    spoil(o.checkpoint, &huge, sizeof huge);
    o.resume = o.checkpoint;
    refuse(&o, NABLA_INTERNAL, "step 3 of 5 left values that are no numbers");
    refuse(&o, NABLA_INTERNAL, "try fp32");
    assert_int_equal(nv_st_open(o.checkpoint, &file, NULL), NABLA_OK);
    assert_string_equal(nv_st_metadata(file, "steps_done"), "2");
    nv_st_close(file);
}

int main(void) {
    if (tiny_make()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model),
        cmocka_unit_test(goes_on_to_the_same_bits),
        cmocka_unit_test(bundled_model_goes_on),
        cmocka_unit_test(checkpoints_change_nothing),
        cmocka_unit_test(another_machine_is_told),
        cmocka_unit_test(refuses_other_settings),
        cmocka_unit_test(keeps_a_stopped_run),
        cmocka_unit_test(refuses_another_model_or_type),
        cmocka_unit_test(refuses_what_is_no_checkpoint),
        cmocka_unit_test(a_bad_place_shows_at_once),
        cmocka_unit_test(what_is_no_noise_shows_at_once),
        cmocka_unit_test(nan_stops_at_its_step),
        cmocka_unit_test(nan_keeps_the_checkpoint),
    };
    int failed = cmocka_run_group_tests_name("resume", tests, NULL, NULL);
    tiny_remove();
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Distillation, on a transformer of a few thousand parameters: the student learns what its teacher says, not clips. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "files.h"
#include "tiny_model.h"

/* Starts from the teacher, which `teach` has trained. */
static nabla_train_options student(const char *output) {
    nabla_train_options o = tiny(output);
    o.model = o.teacher = at("teacher");
    return o;
}

static nabla_train_result run_profiled(const nabla_train_options *o, nabla_dtype compute,
                                       nabla_video_profile *profile) {
    nabla_video_error err = {0};
    nabla_train_result result = {.size = sizeof result};
    nabla_video_machine machine = machine_of(NULL, NULL);
    machine.compute = compute;
    machine.profile = profile;
    if (nabla_train(o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    return result;
}

static nabla_train_result run(const nabla_train_options *o, nabla_dtype compute) {
    return run_profiled(o, compute, NULL);
}

static void teach(void **state) {
    (void)state;
    nabla_train_options o = tiny(at("teacher"));
    o.policy = "dense";
    o.steps = 40;
    o.ema = 0.5f; /* so that its weights are not those that it began with */
    run(&o, NABLA_FP32);
}

/* Loss and norm of the gradient of the log's first row. */
static void read_first_row(const char *output, double *loss, double *norm) {
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/train/log.csv", output);
    char *log = read_all(path, &size);
    assert_int_equal(sscanf(strchr(log, '\n'), "\n%*d,%lf,%lf", loss, norm), 2);
    free(log);
}

/* The same weights and the same attention say the same: nothing to learn, to the last bit. (A GPU may take other
   products for a model that is not trained, and another order of sums.) */
static void equals_have_nothing_to_learn(void **state) {
    (void)state;
    static const nabla_dtype types[] = {NABLA_FP32, NABLA_BF16};
    for (int i = 0; i < 2; i++) {
        double loss, norm;
        nabla_train_options o = student(at(i ? "equal-bf16" : "equal-fp32"));
        o.policy = "dense";
        o.steps = o.log_every = 1;
        run(&o, types[i]);
        read_first_row(o.output, &loss, &norm);
        const double most[2] = {test_on_gpu() ? 1e-7 : 0.0, test_on_gpu() ? 1e-4 : 0.0};
        if (!(loss <= most[0] && norm <= most[1])) fail_msg("type %d: loss %.3g, gradient %.3g", i, loss, norm);
    }
}

/* A sparse student differs from its teacher, and less so as it learns; that differs from learning clips. */
static void students_come_nearer(void **state) {
    (void)state;
    double first, norm;
    nabla_train_options o = student(at("student"));
    o.policy = "nabla-0.1"; /* of two blocks one, mostly */
    o.width = 64;
    o.height = 32;
    o.steps = 120;
    o.log_every = 10;
    o.batch = 6;
    const nabla_train_result result = run(&o, NABLA_FP32);
    read_first_row(o.output, &first, &norm);
    assert_true(first > 0.0 && norm > 0.0);
    assert_true(result.sparsity > 0.3);
    if (!(result.loss < 0.5 * first)) fail_msg("loss %.3g after %.3g", result.loss, first);
}

/* A teacher's forward pass adds 1 to a student's 3.5 of attention, in the profile too. */
static void a_profile_counts_the_teacher(void **state) {
    (void)state;
    double flop[2];
    for (int i = 0; i < 2; i++) {
        nabla_train_options o = student(at(i ? "profiled" : "alone"));
        nabla_video_profile profile = {.size = sizeof profile};
        if (!i) o.teacher = NULL;
        o.policy = "dense";
        o.steps = 3;
        run_profiled(&o, NABLA_BF16, &profile);
        assert_true(profile.part[NABLA_PART_OPTIMIZER].seconds > 0);
        flop[i] = profile.part[NABLA_PART_TRANSFORMER].attention_flop;
    }
    assert_true(flop[0] > 0);
    if (fabs(flop[1] / flop[0] - 4.5 / 3.5) > 1e-6) fail_msg("%.6g, with a teacher %.6g", flop[0], flop[1]);
}

static int stop(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)user;
    (void)phase;
    (void)total;
    (void)note;
    return done == 5;
}

static void assert_same_state(const char *a, const char *b) {
    char path_a[600], path_b[600];
    snprintf(path_a, sizeof path_a, "%s/train/state.safetensors", a);
    snprintf(path_b, sizeof path_b, "%s/train/state.safetensors", b);
    assert_same_files(path_a, path_b);
}

static void stopped_and_resumed(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = student(at("whole"));
    assert_int_equal(train(&o, NULL, &err), NABLA_OK);
    o.output = at("stopped");
    assert_int_equal(train(&o, stop, &err), NABLA_CANCELLED);
    o.resume = 1;
    o.teacher = NULL;
    expect_refusal(train(&o, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "teacher=");
    o.teacher = at("teacher");
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_same_state(at("whole"), at("stopped"));
}

static void unsuited_teachers_are_refused(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = student(at("bad"));
    o.model = NULL;
    o.data = "scenes";
    expect_refusal(train(&o, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "knows other words");
    o.data = "clips";
    o.prediction = "velocity";
    expect_refusal(train(&o, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "predicts \"sample\"");
    o.prediction = NULL;
    o.teacher = at("nobody");
    expect_refusal(train(&o, NULL, &err), &err, NABLA_IO, "nobody does not exist");
}

int main(void) {
    if (tiny_make()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(teach),
        cmocka_unit_test(equals_have_nothing_to_learn),
        cmocka_unit_test(students_come_nearer),
        cmocka_unit_test(a_profile_counts_the_teacher),
        cmocka_unit_test(stopped_and_resumed),
        cmocka_unit_test(unsuited_teachers_are_refused),
    };
    int failed = cmocka_run_group_tests_name("distill", tests, NULL, NULL);
    tiny_remove();
    return failed;
}

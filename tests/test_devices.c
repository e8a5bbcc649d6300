/* SPDX-License-Identifier: Apache-2.0 */
/* Training on the GPU beside training on the CPU: the same steps within rounding, and a run that changes sides. Says so
   and passes where there is no GPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tiny_model.h"

static nabla_status train_on(nabla_device device, nabla_dtype compute, const nabla_train_options *o,
                             nabla_video_error *err) {
    nabla_video_machine machine = machine_of(NULL, NULL);
    machine.device = device;
    machine.compute = compute;
    return nabla_train(o, &machine, NULL, err);
}

/* Column `column` of the log's rows; returns how many. */
static int read_log(const char *folder, int column, double *out, int room) {
    char path[600], line[512];
    snprintf(path, sizeof path, "%s/train/log.csv", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file)); /* names */
    int rows = 0;
    while (rows < room && fgets(line, sizeof line, file)) {
        const char *at = line;
        for (int i = 0; i < column && at; i++)
            at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
        assert_non_null(at);
        out[rows++] = strtod(at, NULL);
    }
    fclose(file);
    return rows;
}

enum { LOSS = 1, NORM = 2, ROOM = 64 };

/* Losses and norms of gradients, step by step. */
static void expect_near(const char *a, const char *b, int column, double limit) {
    double x[ROOM], y[ROOM];
    const int rows = read_log(a, column, x, ROOM);
    assert_int_equal(rows, read_log(b, column, y, ROOM));
    assert_true(rows >= 4);
    for (int i = 0; i < rows; i++)
        if (!(fabs(x[i] - y[i]) <= limit * fabs(y[i])))
            fail_msg("step %d, column %d: %.9g on the GPU, %.9g on the CPU", i + 1, column, x[i], y[i]);
}

static nabla_train_options steps_of(const char *output, int64_t steps) {
    nabla_train_options o = tiny(output);
    o.policy = "dense"; /* a tie decided otherwise is no rounding */
    o.steps = steps;
    o.save_every = 100;
    o.log_every = 1;
    return o;
}

static void agree(nabla_dtype compute, const char *on_gpu, const char *on_cpu, double limit) {
    nabla_video_error err = {0};
    nabla_train_options o = steps_of(on_gpu, 5);
    if (train_on(NABLA_CUDA, compute, &o, &err) != NABLA_OK) fail_msg("%s", err.text);
    o.output = on_cpu;
    if (train_on(NABLA_CPU, compute, &o, &err) != NABLA_OK) fail_msg("%s", err.text);
    expect_near(on_gpu, on_cpu, LOSS, limit);
    expect_near(on_gpu, on_cpu, NORM, 10 * limit);
}

static void steps_agree_in_fp32(void **state) {
    (void)state;
    agree(NABLA_FP32, at("gpu"), at("cpu"), 1e-4);
}

static void steps_agree_in_bf16(void **state) {
    (void)state;
    agree(NABLA_BF16, at("gpu16"), at("cpu16"), 1e-2);
}

/* Five steps on one, three more on the other: as eight on one. */
static void runs_change_sides(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = steps_of(at("whole"), 8);
    if (train_on(NABLA_CPU, NABLA_FP32, &o, &err) != NABLA_OK) fail_msg("%s", err.text);
    o.resume = 1;
    for (int i = 0; i < 2; i++) {
        o.output = at(i ? "gpu" : "cpu");
        if (train_on(i ? NABLA_CPU : NABLA_CUDA, NABLA_FP32, &o, &err) != NABLA_OK) fail_msg("%s", err.text);
        expect_near(o.output, at("whole"), LOSS, 1e-4);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_agree_in_fp32),
        cmocka_unit_test(steps_agree_in_bf16),
        cmocka_unit_test(runs_change_sides),
    };
    if (nabla_device_count(NABLA_CUDA) == 0) {
        printf("no GPU: nothing to compare\n");
        return 0;
    }
    if (tiny_make() != 0) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove();
    return failed;
}

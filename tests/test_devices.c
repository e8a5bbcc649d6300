/* SPDX-License-Identifier: Apache-2.0 */
/* Training on the GPU beside training on the CPU: the same steps within rounding, and a run that changes sides. Says so
   and passes where there is no GPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device/origin.h"
#include "tiny_model.h"

enum { STOP = 4, ALL = 6, LOSS = 1, NORM = 2 /* columns of the log */, ROOM = 64 };

static int stop(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)phase;
    (void)total;
    (void)note;
    return done == *(const int64_t *)user;
}

/* Up to step `last` of ALL. */
static void train_on(nabla_device device, nabla_dtype compute, const char *output, int64_t last, int32_t resume) {
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(stop, &last);
    nabla_train_options o = tiny(output);
    machine.device = device;
    machine.compute = compute;
    o.policy = "dense"; /* a tie decided otherwise is no rounding */
    o.steps = ALL;
    o.save_every = 100;
    o.log_every = 1;
    o.resume = resume;
    const nabla_status status = nabla_train(&o, &machine, NULL, &err);
    if (status != (last < ALL ? NABLA_CANCELLED : NABLA_OK)) fail_msg("%s", err.text);
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

static void steps_agree_in_fp32(void **state) {
    (void)state;
    train_on(NABLA_CUDA, NABLA_FP32, at("gpu"), STOP, 0);
    train_on(NABLA_CPU, NABLA_FP32, at("cpu"), STOP, 0);
    expect_near(at("gpu"), at("cpu"), LOSS, 1e-4);
    expect_near(at("gpu"), at("cpu"), NORM, 1e-3);
}

static void steps_agree_in_bf16(void **state) {
    (void)state;
    train_on(NABLA_CUDA, NABLA_BF16, at("gpu16"), STOP, 0);
    train_on(NABLA_CPU, NABLA_BF16, at("cpu16"), STOP, 0);
    expect_near(at("gpu16"), at("cpu16"), LOSS, 1e-2);
    expect_near(at("gpu16"), at("cpu16"), NORM, 1e-1);
}

/* What one began the other ends, as one alone would have. */
static void runs_change_sides(void **state) {
    (void)state;
    train_on(NABLA_CPU, NABLA_FP32, at("whole"), ALL, 0);
    train_on(NABLA_CUDA, NABLA_FP32, at("cpu"), ALL, 1);
    train_on(NABLA_CPU, NABLA_FP32, at("gpu"), ALL, 1);
    expect_near(at("cpu"), at("whole"), LOSS, 1e-4);
    expect_near(at("gpu"), at("whole"), LOSS, 1e-4);
}

/* What could not be read leaves the buffer alone and is told twice: at once, and to whoever waits. Then all goes on. */
static void failed_copies_are_told(void **state) {
    const nv_device_options options = {.device = NABLA_CUDA};
    const float given[2] = {1, 2};
    float back[2] = {7, 7}, *there = NULL;
    nv_error err = {0};
    nv_device *dev = NULL;
    (void)state;
    assert_int_equal(nv_device_create(&options, &dev, &err), NABLA_OK);
    assert_int_equal(dev->ops->allocate(dev, sizeof given, (void **)&there, &err), NABLA_OK);
    dev->ops->upload(dev, there, given, sizeof given);
    assert_int_equal(dev->ops->download(dev, back, NULL, sizeof back, &err), NABLA_INTERNAL);
    assert_non_null(strstr(err.text, "copying to the host on GPU 0"));
    assert_true(back[0] == 7 && back[1] == 7);
    assert_int_equal(dev->ops->wait(dev, &err), NABLA_INTERNAL);
    assert_int_equal(dev->ops->wait(dev, &err), NABLA_OK);
    assert_int_equal(dev->ops->download(dev, back, there, sizeof back, &err), NABLA_OK);
    assert_memory_equal(back, given, sizeof given);
    dev->ops->release(dev, there);
    nv_device_destroy(dev);
}

/* What is fetched is there once it is awaited, and not before what was queued earlier has read what it replaces. */
static void copies_beside_the_queue_keep_their_order(void **state) {
    enum { N = 1 << 20, ROUNDS = 20, BYTES = N * sizeof(float) };
    const nv_device_options options = {.device = NABLA_CUDA};
    float *host[2], *there[2], *kept, back[2 * ROUNDS];
    nv_device *dev = NULL;
    (void)state;
    GOOD(nv_device_create(&options, &dev, why));
    GOOD(dev->ops->allocate(dev, sizeof back, (void **)&kept, why));
    for (int i = 0; i < 2; i++) {
        GOOD(dev->ops->host_allocate(dev, BYTES, (void **)&host[i], why));
        GOOD(dev->ops->allocate(dev, BYTES, (void **)&there[i], why));
    }
    for (int r = 0; r < ROUNDS; r++) {
        const int32_t lane = r % 2;
        dev->ops->fetched(dev, lane);
        for (int i = 0; i < N; i++)
            host[lane][i] = (float)r;
        dev->ops->fetch(dev, lane, there[lane], host[lane], BYTES);
        dev->ops->await(dev, lane);
        dev->ops->copy(dev, kept + 2 * r, there[lane], sizeof *kept);
        dev->ops->copy(dev, kept + 2 * r + 1, there[lane] + N - 1, sizeof *kept);
    }
    GOOD(dev->ops->download(dev, back, kept, sizeof back, why));
    for (int i = 0; i < 2 * ROUNDS; i++)
        assert_true(back[i] == (float)(i / 2));
    for (int i = 0; i < 2; i++) {
        dev->ops->host_release(dev, host[i]);
        dev->ops->release(dev, there[i]);
    }
    dev->ops->release(dev, kept);
    nv_device_destroy(dev);
}

/* The most that was held is still told once it was given back. */
static void the_most_held_is_kept(void **state) {
    enum { BYTES = 32 << 20 };
    const nv_device_options options = {.device = NABLA_CUDA};
    nv_device_memory before, after;
    nv_device *dev = NULL;
    void *taken;
    (void)state;
    GOOD(nv_device_create(&options, &dev, why));
    dev->ops->memory(dev, &before);
    GOOD(dev->ops->allocate(dev, BYTES, &taken, why));
    dev->ops->release(dev, taken);
    GOOD(dev->ops->wait(dev, why));
    dev->ops->memory(dev, &after);
    assert_true(after.held >= before.held + BYTES / 2); /* others on the GPU may have given something back */
    nv_device_destroy(dev);
}

enum { SIDE = 512 /* of the least product whose algorithm is tried */ };

static nv_device *gpu_device(void) {
    const nv_device_options options = {.device = NABLA_CUDA};
    nv_device *dev;
    GOOD(nv_device_create(&options, &dev, why));
    return dev;
}

static void multiply(nv_device *dev) {
    const size_t bytes = (size_t)SIDE * SIDE * sizeof(float);
    float *m[3];
    for (int i = 0; i < 3; i++)
        GOOD(dev->ops->allocate(dev, bytes, (void **)&m[i], why));
    GOOD(dev->ops->linear(dev, nv_matrix_of(m[0], NABLA_FP32, SIDE, SIDE), nv_matrix_of(m[1], NABLA_FP32, SIDE, SIDE),
                          NULL, nv_matrix_of(m[2], NABLA_FP32, SIDE, SIDE), why));
    for (int i = 0; i < 3; i++)
        dev->ops->release(dev, m[i]);
}

static void expect_choices(nv_device *dev, const char *expected) {
    char *text;
    GOOD(dev->ops->choices(dev, &text, why));
    assert_string_equal(text, expected);
    free(text);
}

/* What a checkpoint keeps: taken on the same machine, not on another, and told where it cannot be taken. */
static void origins_carry_choices(void **state) {
    nv_device *first = gpu_device(), *next = gpu_device(), *last = gpu_device();
    char note[NV_ORIGIN_NOTE], foreign[1024], machine[640];
    nv_origin origin;
    (void)state;
    multiply(first);
    GOOD(nv_origin_open(first, &origin, why));
    assert_memory_equal(origin.machine, "cuda, ", 6);
    assert_non_null(strstr(origin.machine, first->name));
    assert_non_null(strchr(origin.choices, '\n'));
    GOOD(nv_origin_go_on(next, origin.machine, origin.choices, note, why));
    assert_string_equal(note, "");
    expect_choices(next, origin.choices);

    snprintf(foreign, sizeof foreign, "%.*s 65535\n", (int)(strrchr(origin.choices, ' ') - origin.choices),
             origin.choices); /* a shape of clusters that there is not */
    GOOD(nv_origin_go_on(last, origin.machine, foreign, note, why));
    assert_memory_equal(note, "1 of the algorithms ", 20);
    snprintf(machine, sizeof machine, "%s\n0", origin.machine);
    GOOD(nv_origin_go_on(last, machine, origin.choices, note, why));
    assert_non_null(strstr(note, "?0; this is cuda, "));
    GOOD(nv_origin_go_on(last, NULL, NULL, note, why));
    assert_non_null(strstr(note, "a machine that its file does not name"));
    expect_choices(last, "");
    nv_error err = {0};
    assert_int_equal(nv_origin_go_on(last, origin.machine, "1 2\n", note, &err), NABLA_CORRUPT);
    nv_origin_close(&origin);
    nv_device_destroy(first);
    nv_device_destroy(next);
    nv_device_destroy(last);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_agree_in_fp32),
        cmocka_unit_test(steps_agree_in_bf16),
        cmocka_unit_test(runs_change_sides),
        cmocka_unit_test(failed_copies_are_told),
        cmocka_unit_test(copies_beside_the_queue_keep_their_order),
        cmocka_unit_test(the_most_held_is_kept),
        cmocka_unit_test(origins_carry_choices),
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

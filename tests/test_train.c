/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's arithmetic, without a model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "device.h"
#include "files.h"
#include "tensor/random.h"
#include "train/flow.h"
#include "train/log.h"
#include "train/loss.h"
#include "train/noise.h"
#include "train/schedule.h"

static void mixing_makes_what_is_predicted(void **state) {
    (void)state;
    const float x0[4] = {0.5f, -1.0f, 0.25f, 0.0f}, sigma = 0.4f;
    const uint64_t number = 77;
    float noise[4];
    nv_device *dev;
    nv_philox g = nv_philox_at(5, number);
    nv_philox_normal(&g, noise, 4);
    GOOD(test_device_create(1, NULL, &dev, why));
    for (int p = NV_PREDICT_SAMPLE; p <= NV_PREDICT_VELOCITY; p++) {
        const float *level = test_upload(dev, &sigma, sizeof sigma);
        const uint64_t *stream = test_upload(dev, &number, sizeof number);
        nv_noising a = {.batch = 1, .n = 4, .seed = 5, .stream = stream, .sigma = level};
        a.velocity = p == NV_PREDICT_VELOCITY;
        a.x = test_upload(dev, x0, sizeof x0);
        a.clean = test_upload(dev, x0, sizeof x0);
        GOOD(dev->ops->noise(dev, &a, why));
        float *x = test_download(dev, a.x, sizeof x0), *said = test_download(dev, a.clean, sizeof x0);
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(x[i] - (0.6f * x0[i] + 0.4f * noise[i])) < 1e-6f);
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(said[i] - (a.velocity ? noise[i] - x0[i] : x0[i])) < 1e-6f);
        free(x);
        free(said);
        dev->ops->release(dev, (void *)(uintptr_t)level);
        dev->ops->release(dev, (void *)(uintptr_t)stream);
        dev->ops->release(dev, a.x);
        dev->ops->release(dev, a.clean);
    }
    nv_device_destroy(dev);
}

static void names_are_parsed(void **state) {
    (void)state;
    nv_error err;
    nv_prediction prediction;
    nv_weighting weighting;
    nv_noise_kind kind;
    assert_int_equal(nv_prediction_parse("velocity", &prediction, &err), NABLA_OK);
    assert_int_equal(prediction, NV_PREDICT_VELOCITY);
    assert_int_equal(nv_prediction_parse("epsilon", &prediction, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "epsilon"));
    assert_int_equal(nv_weighting_parse("snr", &weighting, &err), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nv_noise_parse("logit-normal", &kind, &err), NABLA_OK);
    assert_int_equal(kind, NV_NOISE_LOGIT_NORMAL);
    assert_int_equal(nv_noise_parse("cosine", &kind, &err), NABLA_INVALID_ARGUMENT);
}

/* The loss, its gradient and its bits for 1, 2 and 3 threads. */
static void loss_and_gradient(void **state) {
    (void)state;
    enum { BATCH = 3, N = 40007, BYTES = BATCH * N * sizeof(float) };
    float *target = malloc(BYTES), *copy = malloc(BYTES);
    double expected = 0.0, first = 0.0;
    const float weight[BATCH] = {1.0f, 0.5f, 2.0f};
    for (size_t i = 0; i < BATCH * N; i++) {
        target[i] = sinf((float)i);
        copy[i] = cosf(0.37f * (float)i);
        double d = (double)copy[i] - (double)target[i];
        expected += (double)weight[i / N] * d * d / (BATCH * N);
    }
    for (int32_t threads = 1; threads <= 3; threads++) {
        nv_device *dev;
        double loss = 0.0;
        GOOD(test_device_create(threads, NULL, &dev, why));
        void *on_device[] = {test_upload(dev, weight, sizeof weight), test_upload(dev, target, BYTES),
                             test_upload(dev, copy, BYTES), test_upload(dev, &loss, sizeof loss)};
        GOOD(dev->ops->mse(dev, BATCH, N, on_device[0], on_device[1], on_device[2], on_device[3], why));
        GOOD(dev->ops->download(dev, &loss, on_device[3], sizeof loss, why));
        assert_true(fabs(loss - expected) < 1e-6 * expected);
        if (threads == 1) first = loss;
        assert_true(memcmp(&loss, &first, sizeof loss) == 0);
        float *output = test_download(dev, on_device[2], BYTES);
        for (size_t i = 0; i < BATCH * N; i += 997) {
            float d = 2.0f * weight[i / N] * (copy[i] - target[i]) / (BATCH * N);
            assert_true(fabsf(output[i] - d) <= 1e-5f * fabsf(d));
        }
        free(output);
        for (int i = 0; i < 4; i++)
            dev->ops->release(dev, on_device[i]);
        nv_device_destroy(dev);
    }
    free(target);
    free(copy);
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void levels_cover_the_range_evenly(void **state) {
    (void)state;
    enum { BATCH = 64 };
    const nv_noise_rule uniform = {NV_NOISE_UNIFORM, 1.0f}, normal = {NV_NOISE_LOGIT_NORMAL, 1.0f};
    float levels[BATCH], middle = 0.0f;
    for (int i = 0; i < BATCH; i++) {
        levels[i] = nv_noise_level(&uniform, 0.77f, i, BATCH);
        float s = nv_noise_level(&normal, 0.77f, i, BATCH);
        assert_true(s > 0.0f && s < 1.0f);
        middle += s > 0.2689f && s < 0.7311f ? 1.0f : 0.0f; /* |z| < 1: 68 % */
    }
    qsort(levels, BATCH, sizeof *levels, ascending);
    for (int i = 0; i < BATCH; i++)
        assert_true(levels[i] >= (float)i / BATCH - 1e-5f && levels[i] <= (float)(i + 1) / BATCH + 1e-5f);
    assert_true(fabsf(middle / BATCH - 0.68f) < 0.04f);
    const nv_noise_rule shifted = {NV_NOISE_UNIFORM, 3.0f};
    assert_true(fabsf(nv_noise_level(&shifted, 0.5f, 0, 1) - 0.75f) < 1e-6f);
    assert_true(nv_noise_level(&uniform, 0.0f, 0, 1) > 0.0f);
}

static void weights_average_to_one(void **state) {
    (void)state;
    double sum = 0.0;
    for (int i = 0; i < 10000; i++)
        sum += (double)nv_loss_weight(NV_WEIGHT_VELOCITY, NV_PREDICT_SAMPLE, ((float)i + 0.5f) / 10000.0f);
    assert_true(fabs(sum / 10000.0 - 1.0) < 1e-3);
    assert_true(nv_loss_weight(NV_WEIGHT_VELOCITY, NV_PREDICT_VELOCITY, 0.1f) == 1.0f);
}

static void schedule_rises_and_falls(void **state) {
    (void)state;
    const nv_schedule s = {.lr = 1e-3, .warmup = 10, .steps = 110, .final = 0.1};
    assert_true(fabs(nv_schedule_lr(&s, 0) - 1e-4) < 1e-12);
    assert_true(fabs(nv_schedule_lr(&s, 9) - 1e-3) < 1e-12);
    assert_true(fabs(nv_schedule_lr(&s, 60) - 5.5e-4) < 1e-12);
    assert_true(fabs(nv_schedule_lr(&s, 110) - 1e-4) < 1e-12);
    const nv_schedule short_run = {.lr = 1.0, .warmup = 100, .steps = 10, .final = 0.0};
    assert_true(fabs(nv_schedule_lr(&short_run, 9) - 0.1) < 1e-12);
    assert_true(fabs(nv_schedule_ema(0.999, 0) - 0.1) < 1e-12);
    assert_true(nv_schedule_ema(0.999, 1000000) == 0.999);
}

/* Rows past the checkpoint go, and so does half a row of a killed run, even where its number is small. */
static void log_is_cut_back(void **state) {
    (void)state;
    char path[] = "/tmp/nabla-log-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    nv_error err;
    nv_log *log;
    double seconds;
    assert_int_equal(nv_log_open(path, -1, &seconds, &log, &err), NABLA_OK);
    for (int64_t step = 10; step <= 40; step += 10) {
        nv_log_row row = {.step = step, .loss = 1.0 / (double)step, .seconds = (double)step};
        assert_int_equal(nv_log_add(log, &row, &err), NABLA_OK);
    }
    nv_log_close(log);
    FILE *file = fopen(path, "a");
    fputs("5", file);
    fclose(file);
    assert_int_equal(nv_log_open(path, 25, &seconds, &log, &err), NABLA_OK);
    nv_log_close(log);
    assert_true(seconds == 20.0);
    size_t size;
    char *text = read_all(path, &size);
    assert_non_null(strstr(text, "step,loss,grad_norm,lr,samples_per_second,sparsity,seconds,data_share\n10,0.1,"));
    assert_non_null(strstr(text, "\n20,0.05,"));
    assert_null(strstr(text, "\n30,"));
    free(text);
    assert_int_equal(nv_log_open(path, 1000, &seconds, &log, &err), NABLA_OK);
    nv_log_close(log);
    assert_true(seconds == 20.0);
    remove(path);
    assert_int_equal(nv_log_open("/nonexistent/log.csv", -1, &seconds, &log, &err), NABLA_IO);
    assert_null(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixing_makes_what_is_predicted),
        cmocka_unit_test(names_are_parsed),
        cmocka_unit_test(loss_and_gradient),
        cmocka_unit_test(levels_cover_the_range_evenly),
        cmocka_unit_test(weights_average_to_one),
        cmocka_unit_test(schedule_rises_and_falls),
        cmocka_unit_test(log_is_cut_back),
    };
    return cmocka_run_group_tests_name("train", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "sample/sampler.h"
#include "weights/safetensors.h"

enum { N = 16, MAX_STEPS = 50 };

/* The made-up field of data/make_sampler.py. */
static void field(const float x[N], float sigma, float v[N]) {
    for (int j = 0; j < N; j++) {
        double here = (double)x[j], next = (double)x[(j + 1) % N], level = (double)sigma;
        v[j] = (float)(sin(3.0 * here + 2.0 * level + 0.4 * j) - 0.5 * (1.0 - level) * next);
    }
}

static void expect(const nv_st_file *file, const char *name, float *out, size_t count) {
    const nv_st_entry *e = nv_st_find(file, name);
    assert_non_null(e);
    assert_int_equal(nv_st_read_f32(e, out, count, NULL), NABLA_OK);
}

static nv_device *device;

static nv_sampler *sampler_of(const char *solver, int steps, float shift) {
    const nv_sampler_rule rule = {.solver = solver, .steps = steps, .shift = shift};
    nv_sampler *s;
    GOOD(nv_sampler_create(device, &rule, N, &s, why));
    return s;
}

/* Step i of x, which is on the host here. */
static void step(nv_sampler *s, int i, float x[N], const float v[N]) {
    float *there = test_upload(device, x, N * sizeof *x), *v_there = test_upload(device, v, N * sizeof *v);
    nv_sampler_prepare(s, i);
    GOOD(nv_sampler_step(s, there, v_there, why));
    GOOD(device->ops->download(device, x, there, N * sizeof *x, why));
    device->ops->release(device, there);
    device->ops->release(device, v_there);
}

/* From step `first` to before step `last`. */
static void run(nv_sampler *s, int first, int last, float x[N]) {
    float v[N];
    for (int i = first; i < last; i++) {
        field(x, nv_sampler_sigma(s, i), v);
        step(s, i, x, v);
    }
}

/* |a - b| / |b| over the latent. */
static double distance(const float *a, const float *b) {
    double difference = 0.0, length = 0.0;
    for (int j = 0; j < N; j++) {
        difference += (double)(a[j] - b[j]) * (double)(a[j] - b[j]);
        length += (double)b[j] * (double)b[j];
    }
    return sqrt(difference / length);
}

/* Its distance from diffusers' result. */
static double check_run(const nv_st_file *file, const char *solver, int steps, float shift) {
    char key[64];
    float theirs[MAX_STEPS + 1 + MAX_STEPS + N], x[N];
    const float *sigmas = theirs, *times = theirs + steps + 1, *last = times + steps;
    snprintf(key, sizeof key, "%s/%d/%.1f", solver, steps, (double)shift);
    expect(file, key, theirs, (size_t)(2 * steps + 1 + N));
    expect(file, "start", x, N);
    nv_sampler *s = sampler_of(solver, steps, shift);
    assert_int_equal(nv_sampler_steps(s), steps);
    for (int i = 0; i < steps; i++) {
        if (fabsf(nv_sampler_sigma(s, i) - sigmas[i]) > 2e-7f) fail_msg("%s: sigma %d", key, i);
        if (fabsf(nv_sampler_time(s, i) - times[i]) > 2e-4f) fail_msg("%s: time %d is %f", key, i, (double)times[i]);
    }
    assert_true(nv_sampler_sigma(s, steps) == 0.0f);
    run(s, 0, steps, x);
    nv_sampler_destroy(s);
    double error = distance(x, last);
    if (!(error < 1e-5)) fail_msg("%s: %g from diffusers", key, error);
    return error;
}

static void solvers_are_those_of_diffusers(void **state) {
    (void)state;
    static const int steps[] = {1, 2, 3, 5, 12, 50};
    static const float shifts[] = {1.0f, 3.0f, 8.5f};
    nv_st_file *file;
    assert_int_equal(nv_st_open(NABLA_TEST_DATA "/sampler.safetensors", &file, NULL), NABLA_OK);
    for (int32_t k = 0; nv_solver_name(k); k++) {
        double worst = 0.0;
        for (int i = 0; i < 6; i++) {
            for (int j = 0; j < 3; j++) {
                worst = fmax(worst, check_run(file, nv_solver_name(k), steps[i], shifts[j]));
            }
        }
        printf("%s: at most %.1e from diffusers\n", nv_solver_name(k), worst);
    }
    nv_st_close(file);
}

/* Twice the steps: a quarter of the error where the order is 2, half of it where it is 1. */
static void solvers_have_their_order(void **state) {
    (void)state;
    float truth[N], x[N];
    nv_sampler *s = sampler_of("euler", 1000, 1.0f);
    for (int32_t k = 0; nv_solver_name(k); k++) {
        const char *name = nv_solver_name(k);
        double error[2];
        for (int i = 0; i < 3; i++) { /* first at 1000 steps; UniPC's begins at 0.999 and has a truth of its own */
            static const int steps[] = {1000, 40, 80};
            nv_sampler_destroy(s);
            s = sampler_of(name, steps[i], 1.0f);
            for (int j = 0; j < N; j++) {
                x[j] = cosf((float)(5 * j));
            }
            run(s, 0, steps[i], x);
            if (i == 0) memcpy(truth, x, sizeof x);
            if (i > 0) error[i - 1] = distance(x, truth);
        }
        double order = log2(error[0] / error[1]);
        printf("%s: of order %.2f\n", name, order);
        /* DPM++'s first two steps, from lambda = -inf, are of first order and still tell at 80. */
        assert_true(order > (strcmp(name, "euler") == 0 ? 0.8 : strcmp(name, "dpm++") == 0 ? 1.5 : 1.8));
    }
    nv_sampler_destroy(s);
}

/* x, the step and the history are all that a run needs to go on; and a run forgets what an earlier one left. */
static void solvers_go_on_from_their_history(void **state) {
    (void)state;
    for (int32_t k = 0; nv_solver_name(k); k++) {
        for (int stop = 0; stop <= 7; stop++) {
            float whole[N], x[N], history[3 * N];
            nv_sampler *s = sampler_of(nv_solver_name(k), 7, 3.0f), *again = sampler_of(nv_solver_name(k), 7, 3.0f);
            for (int j = 0; j < N; j++) {
                whole[j] = x[j] = cosf((float)(7 * j));
            }
            const int32_t count = nv_sampler_history(again);
            for (int j = 0; j < count * N; j++) {
                history[j] = NAN;
            }
            nv_sampler_write_history(again, history);
            run(again, 0, 7, whole);
            run(s, 0, stop, x);
            assert_int_equal(nv_sampler_history(s), count);
            GOOD(nv_sampler_read_history(s, history, why));
            nv_sampler_write_history(again, history);
            run(again, stop, 7, x);
            assert_memory_equal(x, whole, sizeof x);
            nv_sampler_destroy(s);
            nv_sampler_destroy(again);
        }
    }
}

/* With the true velocity of a straight path, any schedule lands on the clean sample. */
static void straight_paths_end_clean(void **state) {
    (void)state;
    float clean[N], velocity[N], x[N];
    for (int32_t k = 0; nv_solver_name(k); k++) {
        nv_sampler *s = sampler_of(nv_solver_name(k), 7, 3.0f);
        float first = nv_sampler_sigma(s, 0);
        for (int j = 0; j < N; j++) {
            float noise = 1.0f - 0.4f * (float)j;
            clean[j] = 0.3f * (float)j - 1.0f;
            velocity[j] = noise - clean[j];
            x[j] = clean[j] + first * velocity[j];
        }
        for (int i = 0; i < nv_sampler_steps(s); i++) {
            step(s, i, x, velocity);
        }
        for (int j = 0; j < N; j++) {
            assert_true(fabsf(x[j] - clean[j]) < 4e-6f);
        }
        nv_sampler_destroy(s);
    }
}

/* The ends of what settings allow: no two levels fall together, nothing becomes NaN. */
static void extremes_stay_finite(void **state) {
    (void)state;
    static const int steps[] = {1, 2, 1000};
    static const float shifts[] = {1e-3f, 1.0f, 1e3f};
    for (int32_t k = 0; nv_solver_name(k); k++) {
        for (int i = 0; i < 9; i++) {
            float x[N];
            int32_t count = steps[i / 3];
            nv_sampler *s = sampler_of(nv_solver_name(k), count, shifts[i % 3]);
            for (int j = 0; j < N; j++) {
                x[j] = cosf((float)(3 * j));
            }
            run(s, 0, count, x);
            for (int j = 0; j < N; j++) {
                assert_true(fabsf(x[j]) < 100.0f);
            }
            for (int j = 0; j < count; j++) {
                assert_true(nv_sampler_sigma(s, j + 1) < nv_sampler_sigma(s, j));
            }
            nv_sampler_destroy(s);
        }
    }
}

/* Guided, x0 from the model, NaN: what a straight path's true answer is, told in the other way. */
static void outputs_become_velocities(void **state) {
    (void)state;
    const nv_sampler_rule rule = {
        .solver = "euler", .steps = 4, .shift = 1.0f, .guided = 1, .guidance = 3.0f, .gives_clean = 1};
    float x[N], output[2 * N], clean[N];
    int32_t failed = -1;
    nv_sampler *s;
    GOOD(nv_sampler_create(device, &rule, N, &s, why));
    for (int j = 0; j < N; j++) {
        x[j] = 0.1f * (float)j;
        output[j] = 0.5f;                 /* with caption */
        output[N + j] = 0.02f * (float)j; /* without */
    }
    float *there = test_upload(device, x, sizeof x), *output_there = test_upload(device, output, sizeof output);
    nv_sampler_prepare(s, 0);
    GOOD(nv_sampler_step(s, there, output_there, why));
    GOOD(device->ops->download(device, clean, nv_sampler_clean(s), sizeof clean, why));
    GOOD(nv_sampler_failed(s, &failed, why));
    assert_int_equal(failed, 0);
    for (int j = 0; j < N; j++) { /* from sigma = 1 to 3/4 */
        const float guided = output[N + j] + 3.0f * (output[j] - output[N + j]);
        assert_true(fabsf(clean[j] - guided) < 2e-6f);
        x[j] = 0.75f * x[j] + 0.25f * guided;
    }
    float *after = test_download(device, there, sizeof x);
    for (int j = 0; j < N; j++)
        assert_true(fabsf(after[j] - x[j]) < 2e-6f);
    output[N - 1] = NAN;
    device->ops->upload(device, output_there, output, sizeof output);
    for (int i = 1; i < 3; i++) { /* the second step leaves it, the third keeps it */
        nv_sampler_prepare(s, i);
        GOOD(nv_sampler_step(s, there, output_there, why));
    }
    GOOD(nv_sampler_failed(s, &failed, why));
    assert_int_equal(failed, 2);
    nv_sampler_prepare(s, 0);
    GOOD(nv_sampler_failed(s, &failed, why));
    assert_int_equal(failed, 0);
    free(after);
    device->ops->release(device, there);
    device->ops->release(device, output_there);
    nv_sampler_destroy(s);
}

static void check_refused(const char *solver, int32_t steps, float shift, const char *message) {
    const nv_sampler_rule rule = {.solver = solver, .steps = steps, .shift = shift};
    nv_error err;
    nv_sampler *s;
    assert_int_equal(nv_sampler_create(device, &rule, N, &s, &err), NABLA_INVALID_ARGUMENT);
    assert_null(s);
    assert_string_equal(err.text, message);
}

static void refuses_bad_settings(void **state) {
    (void)state;
    check_refused("eular", 4, 1.0f, "unknown solver \"eular\": use one of unipc, dpm++, euler");
    check_refused("", 4, 1.0f, "unknown solver \"\": use one of unipc, dpm++, euler");
    check_refused("euler", 0, 1.0f, "0 steps: choose 1 to 1000");
    check_refused("euler", -3, 1.0f, "-3 steps: choose 1 to 1000");
    check_refused("euler", 1001, 1.0f, "1001 steps: choose 1 to 1000");
    check_refused("euler", 4, 0.0f, "shift 0: choose a number above 0");
    check_refused("euler", 4, -1.0f, "shift -1: choose a number above 0");
    check_refused("euler", 4, INFINITY, "shift inf: choose a number above 0");
    check_refused("euler", 4, NAN, "shift nan: choose a number above 0");
}

static void solvers_have_names(void **state) {
    (void)state;
    assert_string_equal(nv_solver_name(0), "unipc");
    assert_string_equal(nv_solver_name(1), "dpm++");
    assert_string_equal(nv_solver_name(2), "euler");
    assert_null(nv_solver_name(-1));
    assert_null(nv_solver_name(1000));
    assert_int_equal(nv_solver_latents("unipc"), 3);
    assert_int_equal(nv_solver_latents("euler"), 1);
    assert_int_equal(nv_solver_latents("eular"), 0);
    nv_sampler_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solvers_are_those_of_diffusers),
        cmocka_unit_test(solvers_have_their_order),
        cmocka_unit_test(solvers_go_on_from_their_history),
        cmocka_unit_test(straight_paths_end_clean),
        cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(outputs_become_velocities),
        cmocka_unit_test(refuses_bad_settings),
        cmocka_unit_test(solvers_have_names),
    };
    nv_error err = {0};
    if (test_device_create(0, NULL, &device, &err) != NABLA_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    nv_device_destroy(device);
    return failures;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "sample/sampler.h"
#include "weights/safetensors.h"

enum { N = 8, MAX_STEPS = 30 };

static void expect(const nv_st_file *file, const char *key, const char *what, float *out, size_t count) {
    char name[64];
    snprintf(name, sizeof name, "%s/%s", key, what);
    const nv_st_entry *e = nv_st_find(file, name);
    assert_non_null(e);
    assert_int_equal(nv_st_read_f32(e, out, count, NULL), NABLA_OK);
}

static int close_to(float a, float b) {
    return fabsf(a - b) <= 2e-6f * fmaxf(1.0f, fabsf(b));
}

static void check_run(const nv_st_file *file, int steps, float shift, const char *key) {
    float sigmas[MAX_STEPS + 1], times[MAX_STEPS], velocity[MAX_STEPS][N], x[MAX_STEPS + 1][N], ours[N];
    nv_sampler *s;
    expect(file, key, "sigmas", sigmas, (size_t)steps + 1);
    expect(file, key, "times", times, (size_t)steps);
    expect(file, key, "velocity", velocity[0], (size_t)steps * N);
    expect(file, key, "x", x[0], ((size_t)steps + 1) * N);
    assert_int_equal(nv_sampler_create("euler", steps, shift, N, &s, NULL), NABLA_OK);
    assert_int_equal(nv_sampler_steps(s), steps);
    for (int j = 0; j < N; j++) {
        ours[j] = x[0][j];
    }
    for (int i = 0; i < steps; i++) {
        assert_true(close_to(nv_sampler_sigma(s, i), sigmas[i]));
        assert_true(close_to(nv_sampler_time(s, i), times[i]));
        nv_sampler_step(s, i, ours, velocity[i]);
        for (int j = 0; j < N; j++) {
            assert_true(close_to(ours[j], x[i + 1][j]));
        }
    }
    assert_true(nv_sampler_sigma(s, 0) == 1.0f);
    assert_true(nv_sampler_sigma(s, steps) == 0.0f);
    nv_sampler_destroy(s);
}

static void euler_is_that_of_diffusers(void **state) {
    (void)state;
    nv_st_file *file;
    assert_int_equal(nv_st_open(NABLA_TEST_DATA "/sampler.safetensors", &file, NULL), NABLA_OK);
    check_run(file, 1, 1.0f, "1/1.0");
    check_run(file, 4, 3.0f, "4/3.0");
    check_run(file, 20, 5.0f, "20/5.0");
    check_run(file, 30, 8.5f, "30/8.5");
    nv_st_close(file);
}

/* With the true velocity of a straight path, any schedule lands on the clean sample. */
static void straight_paths_end_clean(void **state) {
    (void)state;
    float clean[N], velocity[N], x[N];
    nv_sampler *s;
    assert_int_equal(nv_sampler_create("euler", 7, 3.0f, N, &s, NULL), NABLA_OK);
    for (int j = 0; j < N; j++) {
        clean[j] = 0.3f * (float)j - 1.0f;
        x[j] = 1.0f - 0.4f * (float)j; /* noise */
        velocity[j] = x[j] - clean[j];
    }
    for (int i = 0; i < nv_sampler_steps(s); i++) {
        nv_sampler_step(s, i, x, velocity);
    }
    for (int j = 0; j < N; j++) {
        assert_true(fabsf(x[j] - clean[j]) < 1e-6f);
    }
    nv_sampler_destroy(s);
}

static void check_refused(const char *solver, int32_t steps, float shift, const char *message) {
    nv_error err;
    nv_sampler *s;
    assert_int_equal(nv_sampler_create(solver, steps, shift, N, &s, &err), NABLA_INVALID_ARGUMENT);
    assert_null(s);
    assert_string_equal(err.text, message);
}

static void refuses_bad_settings(void **state) {
    (void)state;
    check_refused("eular", 4, 1.0f, "unknown solver \"eular\": use one of euler");
    check_refused("", 4, 1.0f, "unknown solver \"\": use one of euler");
    check_refused("euler", 0, 1.0f, "0 steps: choose 1 to 1000");
    check_refused("euler", -3, 1.0f, "-3 steps: choose 1 to 1000");
    check_refused("euler", 1001, 1.0f, "1001 steps: choose 1 to 1000");
    check_refused("euler", 4, 0.0f, "shift 0: choose a number above 0");
    check_refused("euler", 4, -1.0f, "shift -1: choose a number above 0");
    check_refused("euler", 4, INFINITY, "shift inf: choose a number above 0");
    nv_error err;
    nv_sampler *s;
    assert_int_equal(nv_sampler_create("euler", 4, NAN, N, &s, &err), NABLA_INVALID_ARGUMENT);
}

static void solvers_have_names(void **state) {
    (void)state;
    assert_string_equal(nv_solver_name(0), "euler");
    assert_null(nv_solver_name(-1));
    assert_null(nv_solver_name(1000));
    nv_sampler_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(euler_is_that_of_diffusers),
        cmocka_unit_test(straight_paths_end_clean),
        cmocka_unit_test(refuses_bad_settings),
        cmocka_unit_test(solvers_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

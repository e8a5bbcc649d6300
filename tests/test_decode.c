/* SPDX-License-Identifier: Apache-2.0 */
/* nabla_decode from outside: progress, being stopped, the original's layout, wrong structs. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "nabla/video.h"
#include "scratch.h"
#include "weights/safetensors.h"

typedef struct watcher {
    int64_t last, total;
    int64_t stop_at; /* frames; negative: never */
} watcher;

static int watch(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    watcher *w = user;
    (void)note;
    assert_string_equal(phase, "decode");
    assert_true(done >= w->last && done <= total);
    w->last = done;
    w->total = total;
    return w->stop_at >= 0 && done >= w->stop_at;
}

static nabla_decode_options options_for(const char *output) {
    nabla_decode_options o = nabla_decode_options_default();
    o.model = NABLA_TEST_DATA "/vae";
    o.latent = NABLA_TEST_DATA "/vae_latent.safetensors";
    o.output = output;
    return o;
}

static nabla_video_machine machine_for(watcher *w) {
    nabla_video_machine m = nabla_video_machine_default();
    m.threads = 2;
    m.progress = watch;
    m.user = w;
    return m;
}

static void test_progress(void **state) {
    (void)state;
    char output[256];
    watcher w = {.stop_at = -1};
    nabla_decode_result result = {.size = sizeof result};
    nabla_video_error err = {0};
    snprintf(output, sizeof output, "%s", scratch_path("whole.safetensors"));
    const nabla_decode_options o = options_for(output);
    const nabla_video_machine m = machine_for(&w);
    assert_int_equal(nabla_decode(&o, &m, &result, &err), NABLA_OK);
    assert_int_equal(w.last, 13);
    assert_int_equal(w.total, 13);
    assert_int_equal(result.frames, 13);
    assert_int_equal(result.width, 8);
    assert_int_equal(result.height, 16);
    assert_true(result.memory > 0);
    remove(output);
}

/* Before the first frame, in the midst of a clip and at its last: nothing is left behind. */
static void test_stopped(void **state) {
    (void)state;
    static const char *const names[] = {"film/", "film.png", "film.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int64_t at = 0; at < 13; at += 6) {
            char output[256];
            watcher w = {.stop_at = at};
            nabla_video_error err = {0};
            snprintf(output, sizeof output, "%s", scratch_path(names[i]));
            const nabla_decode_options o = options_for(output);
            const nabla_video_machine m = machine_for(&w);
            assert_int_equal(nabla_decode(&o, &m, NULL, &err), NABLA_CANCELLED);
            assert_int_equal(scratch_files(), 0);
        }
}

static void test_original(void **state) {
    (void)state;
    float values[16 * 2] = {0};
    char latent[256], output[256];
    nv_st_entry entry = {.name = "latent", .rank = 4, .shape = {16, 1, 1, 2}, .dtype = NV_ST_F32, .data = values};
    nabla_decode_result result = {.size = sizeof result};
    nabla_video_error err = {0};
    entry.bytes = sizeof values;
    snprintf(latent, sizeof latent, "%s", scratch_path("latent.safetensors"));
    snprintf(output, sizeof output, "%s", scratch_path("still.png"));
    assert_int_equal(nv_st_write(latent, &entry, 1, NULL, 0, NULL), NABLA_OK);
    nabla_decode_options o = options_for(output);
    o.model = NABLA_TEST_DATA "/vae_original";
    o.latent = latent;
    assert_int_equal(nabla_decode(&o, NULL, &result, &err), NABLA_OK);
    assert_int_equal(result.frames, 1);
    assert_int_equal(result.width, 16);
    o.model = NABLA_TEST_DATA "/vae_original/Wan2.1_VAE.pth";
    assert_int_equal(nabla_decode(&o, NULL, &result, &err), NABLA_OK);
    remove(latent);
    remove(output);
}

static void test_wrong_structs(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_decode_options o = options_for("x.png");
    nabla_decode_result result = {0};
    assert_int_equal(nabla_decode(&o, NULL, &result, &err), NABLA_INVALID_ARGUMENT);
    o.size--;
    assert_int_equal(nabla_decode(&o, NULL, NULL, &err), NABLA_INVALID_ARGUMENT);
    o = options_for(NULL);
    assert_int_equal(nabla_decode(&o, NULL, NULL, &err), NABLA_INVALID_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_original),
        cmocka_unit_test(test_wrong_structs),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

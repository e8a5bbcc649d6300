/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of several batches: the same clips as one batch of all, the same step within rounding, and runs that are
   stopped in the midst of one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "files.h"
#include "tiny_model.h"
#include "video/trainer.h"
#include "weights/safetensors.h"

enum { CLIPS = 8, ALL = 5 /* steps */, STOP_IN = 2 /* one of them, counted from 0 */ };

static nabla_train_options of_rounds(const char *output, int32_t rounds) {
    nabla_train_options o = tiny(output);
    o.batch = CLIPS / rounds;
    o.accumulate = rounds;
    o.steps = ALL;
    return o;
}

/* ------------------------------------------------------------------ the same clips */

typedef struct clips {
    float clean[CLIPS * 3 * FRAMES * HEIGHT * WIDTH], sigma[CLIPS], time[CLIPS], weight[CLIPS];
    int32_t ids[CLIPS * NV_CAPTION_WORDS];
} clips;

/* What the device gets of the step that the trainer is at. */
static void take_clips(nv_trainer *t, clips *out) {
    const nv_device_ops *ops = t->model.device->ops;
    const size_t n = (size_t)t->options->batch;
    for (t->rounds = 0; t->rounds < t->options->accumulate; t->rounds++) {
        const size_t at = n * (size_t)t->rounds;
        int32_t slot;
        GOOD(nv_batches_take(t, &slot, why));
        const nv_batch b = t->batches.device[slot];
        GOOD(ops->download(t->model.device, out->clean + at * t->values, b.clean, n * t->values * sizeof(float), why));
        GOOD(ops->download(t->model.device, out->sigma + at, b.sigma, n * sizeof(float), why));
        GOOD(ops->download(t->model.device, out->time + at, b.time, n * sizeof(float), why));
        GOOD(ops->download(t->model.device, out->weight + at, b.weight, n * sizeof(float), why));
        GOOD(ops->download(t->model.device, out->ids + at * NV_CAPTION_WORDS, b.ids,
                           n * NV_CAPTION_WORDS * sizeof(int32_t), why));
        nv_batches_ahead(t);
    }
    t->rounds = 0;
    t->state.step++;
}

static void the_same_clips(void **state) {
    (void)state;
    const nabla_video_machine machine = machine_of(NULL, NULL);
    nabla_train_options whole = of_rounds(at("clips-1"), 1);
    clips *a = calloc(2, sizeof *a), *b = a + 1;
    assert_non_null(a);
    whole.weighting = "velocity";
    for (int32_t rounds = 2; rounds <= CLIPS; rounds *= 2) {
        nabla_train_options parts = of_rounds(at("clips-n"), rounds);
        nv_trainer one, many;
        parts.weighting = whole.weighting;
        GOOD(nv_trainer_open(&whole, &machine, &one, why));
        GOOD(nv_trainer_open(&parts, &machine, &many, why));
        for (int step = 0; step < 3; step++) {
            take_clips(&one, a);
            take_clips(&many, b);
            assert_memory_equal(a, b, sizeof *a);
        }
        nv_trainer_close(&one);
        nv_trainer_close(&many);
    }
    free(a);
}

/* ------------------------------------------------------------------ the same step */

static double read_number(const char *folder, int row, int column) {
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/train/log.csv", folder);
    char *log = read_all(path, &size);
    const char *p = log;
    for (int i = 0; i < row && p; i++)
        p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL;
    for (int i = 0; i < column && p; i++)
        p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL;
    assert_non_null(p);
    const double x = strtod(p, NULL);
    free(log);
    return x;
}

static void near_to(double x, double y, double limit, const char *what) {
    if (!(fabs(x - y) <= limit * fabs(y))) fail_msg("%s: %.9g of several batches, %.9g of one", what, x, y);
}

static nv_st_file *open_state(const char *folder) {
    char path[600];
    nv_st_file *file;
    snprintf(path, sizeof path, "%s/train/state.safetensors", folder);
    GOOD(nv_st_open(path, &file, why));
    return file;
}

/* Tensors whose names begin so, as far from each other as their largest numbers allow. Returns how many. */
static int expect_tensors(const char *a, const char *b, const char *prefix, double limit) {
    nv_st_file *x = open_state(a), *y = open_state(b);
    int tensors = 0;
    for (size_t i = 0; i < nv_st_count(x); i++) {
        const nv_st_entry *e = nv_st_at(x, i), *other = nv_st_find(y, e->name);
        if (strncmp(e->name, prefix, strlen(prefix)) != 0) continue;
        assert_non_null(other);
        assert_int_equal(e->bytes, other->bytes);
        const size_t n = e->bytes / sizeof(float);
        float *u = malloc(e->bytes), *v = malloc(e->bytes);
        assert_true(u && v);
        GOOD(nv_st_read_f32(e, u, n, why));
        GOOD(nv_st_read_f32(other, v, n, why));
        double most = 0, far = 0;
        for (size_t j = 0; j < n; j++) {
            most = fmax(most, fabs((double)v[j]));
            far = fmax(far, fabs((double)u[j] - (double)v[j]));
        }
        if (!(far <= limit * most)) fail_msg("%s: %g apart, of numbers up to %g", e->name, far, most);
        tensors++;
        free(u);
        free(v);
    }
    nv_st_close(x);
    nv_st_close(y);
    return tensors;
}

/* Trains `steps` in fp32; returns the work of a clip, in which no clock has a say. */
static double train_steps(const char *output, int32_t rounds, int64_t steps, float clip) {
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(NULL, NULL);
    nabla_train_result result = {.size = sizeof result};
    nabla_train_options o = of_rounds(output, rounds);
    machine.compute = NABLA_FP32;
    o.policy = "dense"; /* a tie decided otherwise is no rounding */
    o.log_every = 1;
    o.steps = steps;
    o.clip = clip;
    if (nabla_train(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    return result.gflops / result.samples_per_second;
}

/* The first moments after one step are the gradient as the update took it; loss and norm go on agreeing. */
static void the_same_step(void **state) {
    (void)state;
    for (int clipped = 0; clipped < 2; clipped++) {
        const char *one = at(clipped ? "clipped-1" : "step-1");
        const float clip = clipped ? 1e-3f : 0;
        const double work = train_steps(one, 1, 1, clip);
        for (int32_t rounds = 2; rounds <= CLIPS; rounds *= 4) {
            char name[32];
            snprintf(name, sizeof name, "step-%d-%d", clipped, (int)rounds);
            const char *many = at(name);
            near_to(train_steps(many, rounds, 1, clip), work, 1e-6, "work of a clip");
            near_to(read_number(many, 1, 1), read_number(one, 1, 1), 1e-6, "loss");
            near_to(read_number(many, 1, 2), read_number(one, 1, 2), 1e-5, "norm");
            assert_true(expect_tensors(many, one, "moment1.", 1e-5) > 10);
        }
    }
}

static void the_same_run(void **state) {
    (void)state;
    train_steps(at("run-1"), 1, ALL, 1);
    train_steps(at("run-2"), 2, ALL, 1);
    for (int row = 1; row <= ALL; row++) {
        near_to(read_number(at("run-2"), row, 1), read_number(at("run-1"), row, 1), 1e-3, "loss");
        near_to(read_number(at("run-2"), row, 2), read_number(at("run-1"), row, 2), 1e-2, "norm");
    }
}

/* ------------------------------------------------------------------ replays */

/* The state after ALL + 5 steps whose rounds are queued one by one, or replayed as soon as they may be. */
static char *train_by(nv_replay when, int32_t rounds, size_t *size) {
    const nabla_video_machine machine = machine_of(NULL, NULL);
    char name[64];
    snprintf(name, sizeof name, "%s-%d", when == NV_REPLAY_ALWAYS ? "replayed" : "plain", (int)rounds);
    nabla_train_options o = of_rounds(at(name), rounds);
    nv_step_result step;
    nv_trainer t;
    o.batch = 2;
    o.steps = ALL + 5;
    GOOD(nv_trainer_open(&o, &machine, &t, why));
    for (int i = 0; i < 4; i++)
        t.repeats[i / 2][i % 2].when = when;
    while (t.state.step < o.steps)
        GOOD(nv_trainer_round(&t, &step, why));
    /* Rounds that end a step in either slot, or one kind in each; a CPU records nothing. */
    int recorded = 0;
    for (int i = 0; i < 4; i++)
        recorded += t.repeats[i / 2][i % 2].recording != NULL;
    assert_int_equal(recorded, when == NV_REPLAY_ALWAYS && test_on_gpu() ? 2 : 0);
    GOOD(nv_trainer_save(&t, why));
    nv_trainer_close(&t);
    snprintf(name, sizeof name, "%s-%d/train/state.safetensors", when == NV_REPLAY_ALWAYS ? "replayed" : "plain",
             (int)rounds);
    return read_all(at(name), size);
}

/* Learning rate, averaging, noise and clips of every step are those of plain steps. */
static void replays_change_nothing(void **state) {
    (void)state;
    for (int32_t rounds = 1; rounds <= 2; rounds++) {
        size_t a, b;
        char *plain = train_by(NV_REPLAY_NEVER, rounds, &a), *replayed = train_by(NV_REPLAY_ALWAYS, rounds, &b);
        assert_int_equal(a, b);
        assert_memory_equal(plain, replayed, a);
        free(plain);
        free(replayed);
    }
}

/* ------------------------------------------------------------------ stopping within a step */

/* Asked again within a step, with the steps done so far. */
static int stop_within(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    int *asked = user;
    assert_string_equal(phase, "train");
    assert_int_equal(total, ALL);
    assert_non_null(strstr(note, " clips/s"));
    assert_null(strstr(note, "nan"));
    *asked += done == STOP_IN;
    return *asked == 3; /* once at the end of the step before, then after the first and second batch of this */
}

static void stopped_within_a_step(void **state) {
    (void)state;
    nabla_video_error err = {0};
    int asked = 0;
    nabla_train_options o = of_rounds(at("whole"), 4);
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    o.output = at("cut");
    const nabla_video_machine machine = machine_of(stop_within, &asked);
    assert_int_equal(nabla_train(&o, &machine, NULL, &err), NABLA_CANCELLED);
    assert_non_null(strstr(err.text, "stopped after step 2 of 5"));
    assert_int_equal(asked, 3);
    o.resume = 1;
    o.activation_checkpointing = 1;
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_same_files(at("whole/train/state.safetensors"), at("cut/train/state.safetensors"));
    o.accumulate = 2;
    expect_refusal(train(&o, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "accumulate=4, this run asks for accumulate=2");
}

static void bad_numbers(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("bad"));
    o.accumulate = 0;
    expect_refusal(train(&o, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "accumulate is 0: choose 1 to ");
    o.accumulate = 1 << 10;
    o.batch = 1 << 10;
    expect_refusal(train(&o, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "batch 1024 times accumulate 1024: ");
}

int main(void) {
    if (tiny_make()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_clips),        cmocka_unit_test(the_same_step),
        cmocka_unit_test(the_same_run),          cmocka_unit_test(replays_change_nothing),
        cmocka_unit_test(stopped_within_a_step), cmocka_unit_test(bad_numbers),
    };
    int failed = cmocka_run_group_tests_name("accumulate", tests, NULL, NULL);
    tiny_remove();
    return failed;
}

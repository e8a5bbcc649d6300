/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of sampling that are replayed against the same done plainly: bits, what a step that fails says, and what one
   that is stopped leaves. The CPU does all of them plainly. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "tensor/random.h"
#include "video/denoise.h"

enum { PROMPTS = 2, STEPS = 6, CHANNELS = 3, F = 2, H = 10, W = 6, LATENT = CHANNELS * F * H * W, WORDS = 5, DIM = 20 };

static const nv_dit_config config = {.patch = {1, 2, 1},
                                     .in_channels = CHANNELS,
                                     .out_channels = CHANNELS,
                                     .heads = 2,
                                     .head_dim = 16,
                                     .layers = 2,
                                     .ffn_dim = 40,
                                     .freq_dim = 32,
                                     .text_dim = DIM,
                                     .cross_attn_norm = 1,
                                     .rope_max = 64,
                                     .eps = 1e-6f};

typedef struct fixture {
    nv_device *device;
    nv_dit *model;
    float contexts[(PROMPTS + 1) * WORDS * DIM], noise[PROMPTS * LATENT];
} fixture;

static fixture open_model(nabla_dtype compute) {
    fixture f;
    GOOD(test_device_create(0, NULL, &f.device, why));
    GOOD(nv_dit_create(f.device, &config, compute, 0, &f.model, why));
    GOOD(nv_dit_randomise(f.model, 5, why));
    nv_torch_randn(1, f.contexts, sizeof f.contexts / sizeof *f.contexts);
    nv_torch_randn(2, f.noise, sizeof f.noise / sizeof *f.noise);
    return f;
}

static void close_model(fixture *f) {
    nv_dit_destroy(f->model);
    nv_device_destroy(f->device);
}

static nv_denoise_rule rule_of(const fixture *f, const char *solver, float guidance, int32_t dense_steps,
                               nv_replay replay) {
    nv_denoise_rule r = {
        .prompts = PROMPTS,
        .shape =
            {.frames = F, .height = H, .width = W, .text_length = WORDS, .tile = {1, 4, 4}, .rope_scale = {1, 1, 1}},
        .prediction = NV_PREDICT_VELOCITY,
        .dense_steps = dense_steps,
        .solver = solver,
        .steps = STEPS,
        .guidance = guidance,
        .shift = 3.0f,
        .replay = replay};
    assert_int_equal(nabla_policy_parse(f->device->context, "nabla-0.5_sta-1-3-1", &r.policy), NABLA_OK);
    return r;
}

static nabla_status denoise(const fixture *f, nv_denoiser *d, float *x, const nv_denoise_watch *watch,
                            nv_denoise_totals *totals, nv_error *err) {
    return nv_denoise(d, f->contexts, f->contexts + PROMPTS * WORDS * DIM, x, watch, totals, err);
}

/* A clip from the noise. */
static double clip(const fixture *f, nv_denoiser *d, float x[PROMPTS * LATENT]) {
    nv_denoise_totals totals = {0};
    memcpy(x, f->noise, sizeof f->noise);
    GOOD(denoise(f, d, x, NULL, &totals, why));
    assert_int_equal(totals.steps, STEPS);
    return totals.density;
}

/* Three clips one after the other: the first meets every way, the second begins where that ended, in front of the third
   libnabla's scratch moves. */
static void check_bits(const fixture *f, const char *solver, float guidance, int32_t dense_steps) {
    static float plain[PROMPTS * LATENT], x[PROMPTS * LATENT];
    nv_denoise_rule rule = rule_of(f, solver, guidance, dense_steps, NV_REPLAY_NEVER);
    nv_denoiser *d;
    GOOD(nv_denoiser_create(f->device, f->model, &rule, &d, why));
    const double density = clip(f, d, plain);
    nv_denoiser_destroy(d);
    for (int i = 0; i < PROMPTS * LATENT; i++)
        assert_true(isfinite(plain[i]));
    assert_true(density > 0.0 && density < 1.0);
    rule.replay = NV_REPLAY_ALWAYS;
    GOOD(nv_denoiser_create(f->device, f->model, &rule, &d, why));
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            assert_int_equal(nabla_context_reserve(f->device->context, 2 * nabla_context_reserved(f->device->context)),
                             NABLA_OK);
        assert_true(clip(f, d, x) == density);
        assert_memory_equal(x, plain, sizeof x);
    }
    nv_denoiser_destroy(d);
}

static void replays_give_the_same_bits(void **state) {
    (void)state;
    fixture f = open_model(NABLA_FP32);
    check_bits(&f, "unipc", 4.0f, 0);
    close_model(&f);
    f = open_model(NABLA_BF16);
    check_bits(&f, "dpm++", 1.0f, 3); /* a recording of dense steps, then one of others */
    close_model(&f);
}

/* ------------------------------------------------------------------ stops and failures */

typedef struct watcher {
    fixture *f;
    nv_denoiser *d;
    int poison, stop, done; /* after which step; 0: never. done so far */
    float after[PROMPTS * LATENT], clean[PROMPTS * LATENT];
} watcher;

static nabla_status step(void *user, int32_t done, nv_error *err) {
    watcher *w = user;
    w->done = done;
    if (done == w->poison) {
        const nv_parameter *last = nv_dit_parameter(w->f->model, nv_dit_parameter_count(w->f->model) - 1);
        const float nan = NAN;
        nv_dit_write(w->f->model, last, 0, &nan, 1);
    }
    NV_TRY(nv_denoiser_read(w->d, w->after, err));
    return nv_denoiser_read_clean(w->d, w->clean, err);
}

static int layer(void *user, int32_t at, int32_t layers) {
    const watcher *w = user;
    assert_int_equal(layers, config.layers);
    return w->stop && w->done == w->stop && at == 0;
}

static void failures_name_their_step(void **state) {
    (void)state;
    for (int poison = 1; poison < STEPS; poison += 3) { /* behind a plain step, and behind replayed ones */
        fixture f = open_model(NABLA_FP32);
        watcher w = {.f = &f, .poison = poison};
        const nv_denoise_rule rule = rule_of(&f, "unipc", 4.0f, 0, NV_REPLAY_ALWAYS);
        const nv_denoise_watch watch = {.step = step, .layer = layer, .user = &w};
        nv_denoise_totals totals = {0};
        nv_error err = {0};
        char expected[64];
        GOOD(nv_denoiser_create(f.device, f.model, &rule, &w.d, why));
        snprintf(expected, sizeof expected, "step %d of %d left values that are no numbers", poison + 1, STEPS);
        assert_int_equal(denoise(&f, w.d, f.noise, &watch, &totals, &err), NABLA_INTERNAL);
        if (!strstr(err.text, expected)) fail_msg("%s", err.text);
        assert_int_equal(totals.steps, poison);
        assert_int_equal(w.done, poison);
        nv_denoiser_destroy(w.d);
        close_model(&f);
    }
}

/* x, totals and history are then as the last whole step left them, and the run goes on from them. */
static void stops_between_steps(void **state) {
    (void)state;
    static float whole[PROMPTS * LATENT], x[PROMPTS * LATENT], history[3 * PROMPTS * LATENT];
    fixture f = open_model(NABLA_FP32);
    const nv_denoise_rule rule = rule_of(&f, "unipc", 4.0f, 0, NV_REPLAY_ALWAYS);
    static watcher w;
    const nv_denoise_watch watch = {.step = step, .layer = layer, .user = &w};
    w.f = &f;
    GOOD(nv_denoiser_create(f.device, f.model, &rule, &w.d, why));
    clip(&f, w.d, whole);
    for (w.stop = 1; w.stop < STEPS; w.stop += 3) {
        nv_denoise_totals totals = {0};
        nv_error err = {0};
        w.done = 0;
        memcpy(x, f.noise, sizeof x);
        assert_int_equal(denoise(&f, w.d, x, &watch, &totals, &err), NABLA_CANCELLED);
        assert_int_equal(totals.steps, w.stop);
        assert_memory_equal(x, w.after, sizeof x);
        GOOD(nv_sampler_read_history(nv_denoiser_sampler(w.d), history, why));
        assert_memory_equal(history, w.clean, sizeof w.clean);
        clip(&f, w.d, w.after); /* another run in between */
        nv_sampler_write_history(nv_denoiser_sampler(w.d), history);
        GOOD(denoise(&f, w.d, x, NULL, &totals, why));
        assert_memory_equal(x, whole, sizeof x);
    }
    nv_denoiser_destroy(w.d);
    close_model(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_give_the_same_bits),
        cmocka_unit_test(failures_name_their_step),
        cmocka_unit_test(stops_between_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

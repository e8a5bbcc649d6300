/* SPDX-License-Identifier: Apache-2.0 */
/* The transformer against diffusers': outputs and every gradient; then against itself in bf16, sparse, and again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "dit/dit.h"

typedef struct dit_case {
    const char *file, *policy;
    nv_dit_config config;
    nv_dit_shape shape;
} dit_case;

#define SHAPE(b, f, h, w, text)                                                                   \
    {                                                                                             \
        .batch = b, .frames = f, .height = h, .width = w, .text_length = text, .tile = {1, 8, 8}, \
        .rope_scale = {1, 1, 1}, .train = 1                                                       \
    }
#define CONFIG(pf, ph, pw, head_count, d, layer_count, ffn, cross_norm)                                       \
    {                                                                                                         \
        .patch = {pf, ph, pw}, .in_channels = 3, .out_channels = 4, .heads = head_count, .head_dim = d,       \
        .layers = layer_count, .ffn_dim = ffn, .freq_dim = 32, .text_dim = 20, .cross_attn_norm = cross_norm, \
        .rope_max = 64, .eps = 1e-6f                                                                          \
    }

/* The sizes are those of make_dit.py. */
static const dit_case cases[] = {
    {"dit_dense", "dense", CONFIG(1, 2, 2, 2, 16, 2, 56, 1), SHAPE(2, 3, 20, 18, 7)},
    {"dit_sta", "sta-3-1-3", CONFIG(1, 1, 1, 1, 24, 1, 40, 0), SHAPE(1, 3, 18, 10, 5)},
    {"dit_nabla", "nabla-0.6_sta-1-3-1", CONFIG(1, 2, 1, 2, 16, 1, 40, 1), SHAPE(2, 2, 36, 17, 3)},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The goldens hold the model beside its inputs and gradients. */
static const nv_dit_names golden_names = {NV_DIT_DIFFUSERS, "model."};

/* A model with its inputs and what came of them. */
typedef struct fixture {
    const dit_case *c;
    nv_weights *file;
    nv_device *device;
    nv_dit *model;
    nv_dit_run *run;
    float *latent, *time, *context, *d_out, *out_there, *d_context_there; /* the device's */
    float *out, *d_context, *grads;                                       /* copies on the host */
    size_t outputs, contexts;
} fixture;

static float *read_tensor(const nv_weights *file, const char *name, size_t *count) {
    const nv_st_entry *e = nv_weights_find(file, name);
    if (!e) fail_msg("no tensor %s", name);
    const size_t n = e->bytes / sizeof(float);
    float *data = malloc(e->bytes);
    GOOD(nv_st_read_f32(e, data, n, why));
    if (count) *count = n;
    return data;
}

/* A tensor of the file in the device's memory. */
static float *upload_tensor(const fixture *f, const char *name, size_t *count) {
    size_t n;
    float *host = read_tensor(f->file, name, &n), *there = test_upload(f->device, host, n * sizeof *host);
    free(host);
    if (count) *count = n;
    return there;
}

static fixture open_case(const dit_case *c, nabla_dtype compute, int32_t threads, const char *level) {
    fixture f = {.c = c};
    char path[512];
    snprintf(path, sizeof path, NABLA_TEST_DATA "/%s.safetensors", c->file);
    GOOD(nv_weights_open(path, &f.file, why));
    GOOD(test_device_create(threads, level, &f.device, why));
    GOOD(nv_dit_create(f.device, &c->config, compute, NV_DIT_TRAIN, &f.model, why));
    GOOD(nv_dit_load(f.model, f.file, &golden_names, NULL, NULL, why));
    GOOD(nv_dit_run_create(f.model, &c->shape, &f.run, why));
    f.latent = upload_tensor(&f, "latent", NULL);
    f.time = upload_tensor(&f, "time", NULL);
    f.context = upload_tensor(&f, "context", &f.contexts);
    f.d_out = upload_tensor(&f, "d_out", &f.outputs);
    f.out_there = upload_tensor(&f, "out", NULL);
    f.d_context_there = upload_tensor(&f, "context", NULL);
    return f;
}

static void close_case(fixture *f) {
    float *const all[] = {f->latent, f->time, f->context, f->d_out, f->out_there, f->d_context_there};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        f->device->ops->release(f->device, all[i]);
    nv_dit_run_destroy(f->run);
    nv_dit_destroy(f->model);
    nv_device_destroy(f->device);
    nv_weights_close(f->file);
    free(f->out);
    free(f->d_context);
    free(f->grads);
}

static void forward(fixture *f, nv_dit_run *run, const char *policy_text) {
    nabla_policy policy;
    assert_int_equal(nabla_policy_parse(f->device->context, policy_text, &policy), NABLA_OK);
    const nv_dit_inputs in = {.latent = f->latent, .time = f->time, .context = f->context, .policy = &policy};
    GOOD(nv_dit_forward(f->model, run, &in, f->out_there, why));
    free(f->out);
    f->out = test_download(f->device, f->out_there, f->outputs * sizeof(float));
}

static void backward(fixture *f) {
    const nv_dit_inputs in = {.latent = f->latent, .time = f->time, .context = f->context};
    GOOD(nv_dit_backward(f->model, f->run, &in, f->d_out, f->d_context_there, why));
    free(f->d_context);
    free(f->grads);
    f->d_context = test_download(f->device, f->d_context_there, f->contexts * sizeof(float));
    f->grads = test_download(f->device, nv_dit_parameter(f->model, 0)->grad, nv_dit_values(f->model) * sizeof(float));
}

/* The gradient of a parameter, which lie one after the other. */
static float *grad_of(const fixture *f, const nv_parameter *p) {
    return f->grads + (p->grad - nv_dit_parameter(f->model, 0)->grad);
}

/* ||a - b|| / ||b|| */
static double distance(const float *a, const float *b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / (norm > 0 ? norm : 1));
}

static void expect_near(const float *a, const float *b, size_t n, double limit, const char *what, const char *where) {
    const double d = distance(a, b, n);
    if (!(d <= limit)) fail_msg("%s: %s is %.3g away, allowed %.3g", where, what, d, limit);
}

static void expect_file(const fixture *f, const float *a, const char *prefix, const char *name, double limit) {
    char full[160];
    size_t n;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    float *b = read_tensor(f->file, full, &n);
    expect_near(a, b, n, limit, full, f->c->file);
    free(b);
}

static void agrees_with_diffusers_on(const char *level) {
    for (int i = 0; i < CASES; i++) {
        fixture f = open_case(&cases[i], NABLA_FP32, 2, level);
        forward(&f, f.run, cases[i].policy);
        expect_file(&f, f.out, "", "out", 1e-5);
        backward(&f);
        expect_file(&f, f.d_context, "", "d_context", 1e-4);
        for (size_t p = 0; p < nv_dit_parameter_count(f.model); p++) {
            const nv_parameter *parameter = nv_dit_parameter(f.model, p);
            expect_file(&f, grad_of(&f, parameter), "grad.", parameter->name, 1e-4);
        }
        close_case(&f);
    }
}

static void agrees_with_diffusers(void **state) {
    (void)state;
    for (int i = 0; test_level(i); i++)
        agrees_with_diffusers_on(test_level(i));
}

static void adds_to_gradients(void **state) {
    (void)state;
    fixture f = open_case(&cases[0], NABLA_FP32, 1, NULL);
    for (int i = 0; i < 2; i++) {
        forward(&f, f.run, "dense");
        backward(&f);
    }
    for (size_t p = 0; p < nv_dit_parameter_count(f.model); p++) {
        const nv_parameter *parameter = nv_dit_parameter(f.model, p);
        for (size_t i = 0; i < parameter->count; i++)
            grad_of(&f, parameter)[i] *= 0.5f;
        expect_file(&f, grad_of(&f, parameter), "grad.", parameter->name, 1e-4);
    }
    close_case(&f);
}

static void all_mass_is_dense(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fixture f = open_case(&cases[i], NABLA_FP32, 2, NULL);
        nv_dit_stats stats;
        forward(&f, f.run, "dense");
        float *dense = f.out;
        f.out = NULL;
        forward(&f, f.run, "nabla-1.0");
        assert_memory_equal(f.out, dense, f.outputs * sizeof(float));
        GOOD(nv_dit_get_stats(f.run, &stats, why));
        assert_true(stats.density == 1.0);
        free(dense);
        close_case(&f);
    }
}

static void bf16_stays_near(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fixture f = open_case(&cases[i], NABLA_BF16, 2, NULL);
        /* Dense, as bf16 may choose other blocks; the reference is our own fp32. */
        fixture g = open_case(&cases[i], NABLA_FP32, 2, NULL);
        forward(&f, f.run, "dense");
        forward(&g, g.run, "dense");
        backward(&f);
        backward(&g);
        expect_near(f.out, g.out, g.outputs, 0.01, "out in bf16", g.c->file);
        expect_near(f.d_context, g.d_context, g.contexts, 0.03, "d_context in bf16", g.c->file);
        for (size_t p = 0; p < nv_dit_parameter_count(f.model); p++) {
            const nv_parameter *a = nv_dit_parameter(f.model, p), *b = nv_dit_parameter(g.model, p);
            /* A bias of k shifts all scores of a row alike: its gradient is zero but for rounding and the norm. */
            if (!strstr(a->name, "to_k.bias"))
                expect_near(grad_of(&f, a), grad_of(&g, b), a->count, 0.06, a->name, g.c->file);
        }
        expect_near(f.grads, g.grads, nv_dit_values(f.model), 0.02, "the whole gradient in bf16", g.c->file);
        close_case(&f);
        close_case(&g);
    }
}

/* The same bits each time. */
static void repeats_itself(void **state) {
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        fixture f = open_case(&cases[2], dtype ? NABLA_BF16 : NABLA_FP32, 2, NULL);
        fixture g = open_case(&cases[2], dtype ? NABLA_BF16 : NABLA_FP32, 2, NULL);
        forward(&f, f.run, cases[2].policy);
        backward(&f);
        forward(&g, g.run, cases[2].policy);
        backward(&g);
        assert_memory_equal(f.out, g.out, f.outputs * sizeof(float));
        assert_memory_equal(f.grads, g.grads, nv_dit_values(f.model) * sizeof(float));
        close_case(&f);
        close_case(&g);
    }
}

/* One frame of one of the case's samples: enough where no golden is held against it, and an emulated GPU is slow. */
static nv_dit_shape short_shape(const dit_case *c) {
    nv_dit_shape shape = c->shape;
    shape.batch = shape.frames = 1;
    return shape;
}

/* The case's inputs in a model of so many layers, whose run keeps its activations or computes them again. */
static fixture open_deep(const dit_case *c, int32_t layers, nabla_dtype compute, int32_t recompute) {
    fixture f = open_case(c, compute, 2, NULL);
    nv_dit_config config = c->config;
    nv_dit_shape shape = short_shape(c);
    nv_dit_run_destroy(f.run);
    nv_dit_destroy(f.model);
    config.layers = layers;
    shape.recompute = recompute;
    GOOD(nv_dit_create(f.device, &config, compute, NV_DIT_TRAIN, &f.model, why));
    GOOD(nv_dit_randomise(f.model, 3, why));
    GOOD(nv_dit_run_create(f.model, &shape, &f.run, why));
    return f;
}

static void expect_same_bits(const fixture *a, const fixture *b) {
    assert_memory_equal(a->out, b->out, a->outputs * sizeof(float));
    assert_memory_equal(a->d_context, b->d_context, a->contexts * sizeof(float));
    assert_memory_equal(a->grads, b->grads, nv_dit_values(a->model) * sizeof(float));
}

/* Odd and even numbers of layers, one alone; twice, since a pass uses up what it kept. */
static void recomputes_the_same_bits(void **state) {
    (void)state;
    for (int32_t layers = 1; layers <= 4; layers++) {
        const dit_case *c = &cases[layers % CASES];
        const nabla_dtype compute = layers < 4 ? NABLA_BF16 : NABLA_FP32;
        fixture kept = open_deep(c, layers, compute, 0), again = open_deep(c, layers, compute, 1);
        nv_dit_stats stats[2];
        for (int pass = 0; pass < 2; pass++) {
            forward(&kept, kept.run, c->policy);
            forward(&again, again.run, c->policy);
            backward(&kept);
            backward(&again);
            expect_same_bits(&again, &kept);
        }
        GOOD(nv_dit_get_stats(kept.run, &stats[0], why));
        GOOD(nv_dit_get_stats(again.run, &stats[1], why));
        const double more =
            1.0 + (layers - 1.0) / layers / 3.5; /* attention forwards is 2 of 7 parts of a whole step */
        assert_true(fabs(stats[1].attention_flop / stats[0].attention_flop - more) < 1e-9);
        close_case(&kept);
        close_case(&again);
    }
}

/* A block more costs a stream, instead of all that a block leaves. */
static void recomputing_takes_little(void **state) {
    (void)state;
    const dit_case *c = &cases[0];
    size_t bytes[2][2];
    for (int32_t recompute = 0; recompute < 2; recompute++)
        for (int deep = 0; deep < 2; deep++) {
            fixture f = open_deep(c, deep ? 4 : 3, NABLA_BF16, recompute);
            nv_dit_shape shape = short_shape(c);
            shape.recompute = recompute;
            GOOD(nv_dit_run_memory(f.model, &shape, &bytes[recompute][deep], why));
            close_case(&f);
        }
    const size_t tokens = (size_t)(c->shape.height / 2 * (c->shape.width / 2)), stream = tokens * 32 * sizeof(float),
                 kept = bytes[0][1] - bytes[0][0], again = bytes[1][1] - bytes[1][0];
    assert_in_range(again, stream, stream + (16 << 10) /* a plan and two modulations */);
    assert_true(kept > 8 * stream);
}

/* Of a bf16 model that is not trained: one of the two dtypes each. */
static size_t bare_bytes(nv_dit *m) {
    size_t bytes = 0;
    for (size_t p = 0; p < nv_dit_parameter_count(m); p++)
        bytes += nv_dit_parameter(m, p)->count * (nv_dit_parameter(m, p)->rounded ? 2 : 4);
    return bytes;
}

/* Without gradients and masters too. */
static void infers_as_it_trains(void **state) {
    (void)state;
    fixture f = open_case(&cases[0], NABLA_BF16, 2, NULL);
    nv_dit_shape shape = f.c->shape;
    nv_dit_run *run;
    nv_dit *bare;
    size_t train_bytes, bytes;
    forward(&f, f.run, "dense");
    float *trained = f.out;
    f.out = NULL;
    GOOD(nv_dit_run_memory(f.model, &shape, &train_bytes, why));
    shape.train = 0;
    GOOD(nv_dit_run_memory(f.model, &shape, &bytes, why));
    assert_true(bytes < train_bytes);
    nv_dit_needs needs;
    GOOD(nv_dit_estimate(f.device, &f.c->config, NABLA_BF16, NV_DIT_INFER, &shape, &needs, why));
    assert_int_equal(needs.run, bytes);
    assert_int_equal(needs.values, nv_dit_values(f.model));
    assert_in_range(needs.model, bare_bytes(f.model), bare_bytes(f.model) + 128);
    GOOD(nv_dit_create(f.device, &f.c->config, NABLA_BF16, NV_DIT_INFER, &bare, why));
    GOOD(nv_dit_load(bare, f.file, &golden_names, NULL, NULL, why));
    nv_dit *models[] = {f.model, bare};
    for (int i = 0; i < 2; i++) {
        f.model = models[i];
        GOOD(nv_dit_run_create(f.model, &shape, &run, why));
        forward(&f, run, "dense");
        if (test_on_gpu()) /* which fuses there what training must keep apart */
            expect_near(f.out, trained, f.outputs, 0.01, "out of a run that does not train", f.c->file);
        else
            assert_memory_equal(f.out, trained, f.outputs * sizeof(float));
        nv_dit_run_destroy(run);
    }
    f.model = models[0];
    nv_dit_destroy(bare);
    free(trained);
    close_case(&f);
}

static int stop_there(void *user, int32_t done, int32_t total) {
    (void)total;
    return done == *(const int32_t *)user;
}

static void stop_at(fixture *f, nv_dit_run *run, int32_t layer) {
    const nabla_policy dense = {.size = sizeof dense, .dense = 1};
    const nv_dit_inputs in = {f->latent, f->time, f->context, &dense, stop_there, &layer};
    assert_int_equal(nv_dit_forward(f->model, run, &in, f->out_there, NULL), NABLA_CANCELLED);
}

/* A few numbers of every block, last to first, written and read. */
static void change_blocks(nv_dit *m) {
    const float some[3] = {0.5f, -0.25f, 0.125f};
    float back[3];
    for (size_t i = nv_dit_parameter_count(m); i-- > 0;) {
        const nv_parameter *p = nv_dit_parameter(m, i);
        if (p->layer < 0 || !strstr(p->name, "ffn.net.2")) continue;
        nv_dit_write(m, p, 2, some, 3);
        GOOD(nv_dit_read(m, p, 2, back, 3, why));
        assert_memory_equal(back, some, sizeof some);
    }
    GOOD(nv_dit_update(m, why));
}

/* A model in the host's memory but for two blocks gives the bits of one that is all on the device, pass after pass,
   with numbers of layers that make its slots turn differently, and after one that was stopped. */
static void offloads_to_the_same_bits(void **state) {
    (void)state;
    if (!test_on_gpu()) return; /* refuses_what_cannot_work has the rest to say */
    for (int32_t layers = 1; layers <= 5; layers++) {
        const dit_case *c = &cases[layers % CASES];
        const nabla_dtype compute = layers < 4 ? NABLA_BF16 : NABLA_FP32;
        const nv_dit_use uses[] = {NV_DIT_INFER, NV_DIT_OFFLOAD};
        fixture f = open_case(c, compute, 2, NULL);
        nv_dit_config config = c->config;
        nv_dit_shape shape = short_shape(c);
        nv_dit *const whole = f.model;
        float *out[2];
        config.layers = layers;
        shape.train = 0;
        for (int i = 0; i < 2; i++) {
            nv_dit_run *run;
            GOOD(nv_dit_create(f.device, &config, compute, uses[i], &f.model, why));
            GOOD(nv_dit_randomise(f.model, 3, why));
            GOOD(nv_dit_run_create(f.model, &shape, &run, why));
            forward(&f, run, c->policy);
            stop_at(&f, run, layers / 2);
            forward(&f, run, c->policy);
            change_blocks(f.model);
            forward(&f, run, c->policy);
            out[i] = f.out;
            f.out = NULL;
            nv_dit_run_destroy(run);
            nv_dit_destroy(f.model);
        }
        assert_memory_equal(out[0], out[1], f.outputs * sizeof(float));
        free(out[0]);
        free(out[1]);
        f.model = whole;
        close_case(&f);
    }
}

static void begins_with_nothing_to_say(void **state) {
    (void)state;
    fixture f = open_case(&cases[0], NABLA_FP32, 1, NULL);
    nv_dit_init(f.model, 7);
    GOOD(nv_dit_update(f.model, why));
    forward(&f, f.run, "dense");
    for (size_t i = 0; i < f.outputs; i++)
        assert_true(f.out[i] == 0.0f);
    close_case(&f);
}

static void expect_refusal(nabla_status status, const nv_error *err, nabla_status wanted, const char *word) {
    assert_int_equal(status, wanted);
    assert_non_null(strstr(err->text, word));
}

static void refuses_what_cannot_work(void **state) {
    (void)state;
    fixture f = open_case(&cases[0], NABLA_FP32, 1, NULL);
    const nv_dit_inputs none = {0};
    nv_error err = {0};
    nv_dit_run *run;
    nv_dit *model;
    nv_dit_shape shape = f.c->shape;
    nv_dit_config config = f.c->config;
    expect_refusal(nv_dit_backward(f.model, f.run, &none, f.d_out, NULL, &err), &err, NABLA_INVALID_ARGUMENT,
                   "forward");
    expect_refusal(nv_dit_forward(f.model, f.run, &none, f.out_there, &err), &err, NABLA_INVALID_ARGUMENT, "latent");
    shape.height = 21;
    expect_refusal(nv_dit_run_create(f.model, &shape, &run, &err), &err, NABLA_INVALID_ARGUMENT, "height");
    shape.height = 20;
    shape.train = 0;
    shape.recompute = 1;
    expect_refusal(nv_dit_run_create(f.model, &shape, &run, &err), &err, NABLA_INVALID_ARGUMENT, "compute again");
    shape = f.c->shape;
    shape.rope_scale[1] = 8.0f;
    expect_refusal(nv_dit_run_create(f.model, &shape, &run, &err), &err, NABLA_INVALID_ARGUMENT, "rope_max");
    if (!test_on_gpu())
        expect_refusal(nv_dit_create(f.device, &config, NABLA_FP32, NV_DIT_OFFLOAD, &model, &err), &err,
                       NABLA_UNSUPPORTED, "for a GPU");
    config.head_dim = 20;
    expect_refusal(nv_dit_create(f.device, &config, NABLA_FP32, NV_DIT_INFER, &model, &err), &err,
                   NABLA_INVALID_ARGUMENT, "20");
    config.head_dim = 16;
    config.ffn_dim = 57;
    GOOD(nv_dit_create(f.device, &config, NABLA_FP32, NV_DIT_INFER, &model, why));
    expect_refusal(nv_dit_load(model, f.file, &golden_names, NULL, NULL, &err), &err, NABLA_CORRUPT, "ffn");
    expect_refusal(nv_dit_load(model, f.file, NULL, NULL, NULL, &err), &err, NABLA_INVALID_ARGUMENT,
                   "no Wan2.1 transformer");
    nv_dit_destroy(model);
    close_case(&f);
}

/* A forward pass that fails midway leaves activations of two passes, which no backward pass may use. */
static void a_failed_pass_has_no_backward(void **state) {
    (void)state;
    fixture f = open_case(&cases[0], NABLA_FP32, 1, NULL);
    nv_error err = {0};
    const nabla_policy wrong = {.size = sizeof wrong, .has_nabla = 1, .thr = 2.0f};
    const nv_dit_inputs in = {.latent = f.latent, .time = f.time, .context = f.context, .policy = &wrong};
    forward(&f, f.run, "dense");
    expect_refusal(nv_dit_forward(f.model, f.run, &in, f.out_there, &err), &err, NABLA_INVALID_ARGUMENT, "thr");
    expect_refusal(nv_dit_backward(f.model, f.run, &in, f.d_out, NULL, &err), &err, NABLA_INVALID_ARGUMENT, "forward");
    close_case(&f);
}

/* With an argument: the test of that name. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_diffusers),
        cmocka_unit_test(adds_to_gradients),
        cmocka_unit_test(all_mass_is_dense),
        cmocka_unit_test(bf16_stays_near),
        cmocka_unit_test(repeats_itself),
        cmocka_unit_test(recomputes_the_same_bits),
        cmocka_unit_test(recomputing_takes_little),
        cmocka_unit_test(infers_as_it_trains),
        cmocka_unit_test(offloads_to_the_same_bits),
        cmocka_unit_test(begins_with_nothing_to_say),
        cmocka_unit_test(refuses_what_cannot_work),
        cmocka_unit_test(a_failed_pass_has_no_backward),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

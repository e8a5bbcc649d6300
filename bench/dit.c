/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the transformer of the demo runs, forward and with backward, and where its time goes. CSV to stdout.
 *
 *     bench_dit [--threads N] [--batch N] [--grid FxHxW] [--dtype bf16|fp32] [--repeat N] [POLICY...]
 *
 * The model: width 192, 3 heads, 6 layers, ffn 768, patches of 8 x 8 pixels, 16 words. Times are minima over repeats;
 * `share` is floating-point operations a second over those of a large square product of the same run.
 */
#include "dit/dit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    int32_t threads, batch, grid[3], repeat;
    nabla_dtype dtype;
} settings;

static void check(nabla_status status, const nv_error *err) {
    if (status == NABLA_OK) return;
    fprintf(stderr, "bench_dit: %s\n", err->text);
    exit(1);
}

static float *random_floats(size_t n, uint64_t stream, float scale) {
    float *x = malloc(n * sizeof *x);
    nv_philox g = nv_philox_at(1, stream);
    if (!x) exit(1);
    nv_philox_normal(&g, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
    return x;
}

/* Operations a second of a product that fills the machine. */
static double product_peak(nv_device *dev, nabla_dtype dtype) {
    const int64_t n = 2048;
    void *data[3];
    nv_matrix m[3];
    nv_error err = {0};
    double best = 0;
    for (int i = 0; i < 3; i++) {
        check(dev->ops->allocate(dev, (size_t)(n * n) * 4, &data[i], &err), &err);
        m[i] = nv_matrix_of(data[i], dtype, n, n);
    }
    for (int i = 0; i < 8; i++) {
        nv_device_clock_reset(dev);
        check(dev->ops->linear(dev, m[0], m[1], NULL, m[2], &err), &err);
        const double rate = dev->clock.product_flop / dev->clock.products_s;
        if (rate > best) best = rate;
    }
    for (int i = 0; i < 3; i++)
        dev->ops->release(dev, data[i]);
    return best;
}

typedef struct bench {
    nv_device *dev;
    nv_dit *model;
    nv_dit_run *run;
    nv_dit_inputs in;
    float *out, *d_out, *d_context;
    double peak;
} bench;

static void measure(bench *b, const settings *s, const char *text, int train) {
    nabla_policy policy;
    nv_error err = {0};
    nv_dit_stats best = {0}, stats;
    double least = 1e30;
    if (nabla_policy_parse(b->dev->context, text, &policy) != NABLA_OK) {
        fprintf(stderr, "bench_dit: %s\n", nabla_context_message(b->dev->context));
        exit(2);
    }
    b->in.policy = &policy;
    for (int32_t i = 0; i <= s->repeat; i++) { /* the first makes primitives and is not counted */
        const double begin = nv_now();
        check(nv_dit_forward(b->model, b->run, &b->in, b->out, &err), &err);
        if (train) check(nv_dit_backward(b->model, b->run, &b->in, b->d_out, b->d_context, &err), &err);
        const double took = nv_now() - begin;
        if (i == 0 || took >= least) continue;
        least = took;
        nv_dit_get_stats(b->run, &stats);
        best = stats;
    }
    printf("%s,%s,%s,%d,%d,%d,%.3f,%.4f,%.3f,%.4f,%.4f,%.4f,%.4f,%.1f,%.1f,%.3f\n", text,
           s->dtype == NABLA_BF16 ? "bf16" : "fp32", train ? "train" : "forward", (int)s->threads, (int)s->batch,
           (int)(s->grid[0] * s->grid[1] * s->grid[2]), best.density, least, s->batch / least, best.plan_s,
           best.attention_s, best.products_s, best.other_s, 1e-9 * best.product_flop / best.products_s,
           1e-9 * best.attention_flop / best.attention_s, (best.product_flop + best.attention_flop) / least / b->peak);
    fflush(stdout);
}

static void start(bench *b, settings *s) {
    const nv_device_options options = {.threads = s->threads};
    const nv_dit_config config = {.patch = {1, 8, 8},
                                  .in_channels = 3,
                                  .out_channels = 3,
                                  .heads = 3,
                                  .head_dim = 64,
                                  .layers = 6,
                                  .ffn_dim = 768,
                                  .freq_dim = 256,
                                  .text_dim = 128,
                                  .cross_attn_norm = 1,
                                  .rope_max = 1024,
                                  .eps = 1e-6f};
    const nv_dit_shape shape = {.batch = s->batch,
                                .frames = s->grid[0],
                                .height = 8 * s->grid[1],
                                .width = 8 * s->grid[2],
                                .text_length = 16,
                                .tile = {1, 8, 8},
                                .rope_scale = {1, 1, 1},
                                .train = 1};
    const size_t clip = (size_t)3 * 64 * (size_t)s->grid[0] * (size_t)s->grid[1] * (size_t)s->grid[2],
                 batch = (size_t)s->batch, words = batch * 16 * 128;
    nv_error err = {0};
    size_t bytes;
    check(nv_device_create(&options, &b->dev, &err), &err);
    s->threads = b->dev->threads;
    check(nv_dit_create(b->dev, &config, s->dtype, 1, &b->model, &err), &err);
    nv_dit_init(b->model, 1);
    nv_parameter *head = nv_dit_parameter(b->model, 13); /* proj_out.weight starts at zero; let gradients pass */
    memcpy(head->value, random_floats(head->count, 9, 0.05f), head->count * sizeof(float));
    check(nv_dit_update(b->model, &err), &err);
    check(nv_dit_run_memory(b->model, &shape, &bytes, &err), &err);
    check(nv_dit_run_create(b->model, &shape, &b->run, &err), &err);
    float *time = malloc(batch * sizeof *time);
    for (size_t i = 0; time && i < batch; i++)
        time[i] = 1000.0f * ((float)i + 0.5f) / (float)batch;
    b->in = (nv_dit_inputs){
        .latent = random_floats(batch * clip, 2, 1.0f), .time = time, .context = random_floats(words, 3, 1.0f)};
    b->d_out = random_floats(batch * clip, 4, 1e-3f);
    b->out = random_floats(batch * clip, 5, 1.0f);
    b->d_context = random_floats(words, 6, 1.0f);
    b->peak = product_peak(b->dev, s->dtype);
    fprintf(stderr, "level %s, products by %s, %.1f GFLOP/s at most; %zu parameters, %.0f MB of activations\n",
            b->dev->level, nv_device_products(b->dev, s->dtype), 1e-9 * b->peak, nv_dit_values(b->model),
            1e-6 * (double)bytes);
}

static int option(settings *s, const char *name, const char *value) {
    if (!value) return 0;
    if (strcmp(name, "--threads") == 0) return sscanf(value, "%d", &s->threads) == 1;
    if (strcmp(name, "--batch") == 0) return sscanf(value, "%d", &s->batch) == 1 && s->batch > 0;
    if (strcmp(name, "--repeat") == 0) return sscanf(value, "%d", &s->repeat) == 1 && s->repeat > 0;
    if (strcmp(name, "--grid") == 0) return sscanf(value, "%dx%dx%d", &s->grid[0], &s->grid[1], &s->grid[2]) == 3;
    if (strcmp(name, "--dtype") != 0) return 0;
    s->dtype = strcmp(value, "fp32") == 0 ? NABLA_FP32 : NABLA_BF16;
    return strcmp(value, "fp32") == 0 || strcmp(value, "bf16") == 0;
}

int main(int argc, char **argv) {
    static const char *const usual[] = {"dense", "nabla-0.4"};
    settings s = {.threads = 0, .batch = 8, .grid = {8, 24, 24}, .repeat = 3, .dtype = NABLA_BF16};
    bench b = {0};
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i += 2)
        if (!option(&s, argv[i], argv[i + 1])) {
            fprintf(stderr, "usage: bench_dit [--threads N] [--batch N] [--grid FxHxW] [--dtype bf16|fp32] "
                            "[--repeat N] [POLICY...]\n");
            return 2;
        }
    const char *const *policies = i < argc ? (const char *const *)argv + i : usual;
    const int count = i < argc ? argc - i : 2;
    start(&b, &s);
    printf("policy,dtype,pass,threads,batch,tokens,density,seconds,clips_per_s,plan_s,attention_s,products_s,other_s,"
           "product_gflops,attention_gflops,share\n");
    for (int p = 0; p < count; p++)
        for (int train = 0; train < 2; train++)
            measure(&b, &s, policies[p], train);
    nv_dit_run_destroy(b.run);
    nv_dit_destroy(b.model);
    nv_device_destroy(b.dev);
    return 0;
}

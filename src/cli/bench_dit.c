/* SPDX-License-Identifier: Apache-2.0 */
/* The transformer alone, with random weights: one pass, and one training step, by policy or over random lists of a
   given density, and where its time goes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/bench_lists.h"
#include "cli/bench_step.h"
#include "cli/machine.h"
#include "cli/product_peak.h"
#include "cli/profile.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "device/repeat.h"
#include "dit/dit.h"
#include "tensor/memory.h"

typedef struct size {
    const char *name;
    nv_dit_config config;
    int32_t text_length;
} size;

#define WAN(heads_, layers_, ffn)                                                                                     \
    {                                                                                                                 \
        .patch = {1, 2, 2}, .in_channels = 16, .out_channels = 16, .heads = heads_, .head_dim = 128,                  \
        .layers = layers_, .ffn_dim = ffn, .freq_dim = 256, .text_dim = 4096, .cross_attn_norm = 1, .rope_max = 1024, \
        .eps = 1e-6f                                                                                                  \
    }
static const size sizes[] = {
    {"demo",
     {.patch = {1, 8, 8},
      .in_channels = 3,
      .out_channels = 3,
      .heads = 3,
      .head_dim = 64,
      .layers = 6,
      .ffn_dim = 768,
      .freq_dim = 256,
      .text_dim = 192,
      .cross_attn_norm = 1,
      .rope_max = 1024,
      .eps = 1e-6f},
     16},
    {"1.3B", WAN(12, 30, 8960), 512},
    {"14B", WAN(40, 40, 13824), 512},
};

typedef struct bench {
    const cli_common *common;
    const cli_bench_settings *s;
    size size;
    nabla_dtype dtype;
    nv_device_options on;
    nv_device *device;
    nv_dit *model;
    nv_dit_run *run;
    nv_dit_shape shape;
    nv_dit_use use;
    nv_dit_inputs in; /* of the passes under way */
    nv_repeat repeat;
    float *latent, *time, *context, *out; /* the device's */
    cli_bench_step step;                  /* with --backward */
    double peak;                          /* operations a second of a large product */
    json_t *json;
    cli_bench_csv csv;
    int printed;
    cli_profile profile;
} bench;

static int fail(nabla_status status, const nv_error *err) {
    return status == NABLA_OK ? 0 : cli_fail_status("bench", status, err->text);
}

/* ------------------------------------------------------------------ what runs */

static int find_size(const char *name, int32_t layers, size *out) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(sizes[i].name, name) == 0) {
            *out = sizes[i];
            if (layers) out->config.layers = layers;
            return 0;
        }
    return cli_misuse("bench", "--size takes demo, 1.3B or 14B, not '%s'", name);
}

static nv_dit_shape shape_of(const bench *b, const int32_t grid[3]) {
    const int32_t *patch = b->size.config.patch;
    return (nv_dit_shape){.batch = b->s->batch,
                          .frames = grid[0] * patch[0],
                          .height = grid[1] * patch[1],
                          .width = grid[2] * patch[2],
                          .text_length = b->size.text_length,
                          .tile = {1, 8, 8},
                          .rope_scale = {1, 1, 1},
                          .train = b->s->backward,
                          .recompute = b->s->recompute};
}

/* Numbers of a pass' input and output, and of its contexts. */
typedef struct numbers {
    size_t in, out, text;
} numbers;

static numbers numbers_of(const bench *b) {
    const nv_dit_config *c = &b->size.config;
    const size_t batch = (size_t)b->shape.batch,
                 pixels = batch * (size_t)b->shape.frames * (size_t)b->shape.height * (size_t)b->shape.width;
    return (numbers){pixels * (size_t)c->in_channels, pixels * (size_t)c->out_channels,
                     batch * (size_t)b->shape.text_length * (size_t)c->text_dim};
}

/* Weights, what a step keeps beside them (an optimizer's state, the inputs), and a pass; weights in the host's memory.
 */
typedef struct needs {
    double model, beside, run, host;
} needs;

static double on_device(const needs *n) {
    return n->model + n->beside + n->run;
}

static nabla_status estimate(const bench *b, nv_dit_use use, const nv_dit_shape *shape, needs *out, nv_error *err) {
    const numbers n = numbers_of(b);
    const size_t train = shape->train ? n.out + n.text : 0;
    nv_dit_needs dit;
    NV_TRY(nv_dit_estimate(b->device, &b->size.config, b->dtype, use, shape, &dit, err));
    *out = (needs){.model = (double)dit.model, .run = (double)dit.run, .host = (double)dit.host};
    out->beside = (double)sizeof(float) * (double)(n.in + n.out + n.text + train);
    if (shape->train) out->beside += (double)cli_bench_step_memory(dit.values);
    return NABLA_OK;
}

/* What to give instead, and how much it would be; nothing where that is no less. */
static void tell_less(const bench *b, const needs *n, char *text, size_t room) {
    nv_dit_shape shape = b->shape;
    char less[24];
    needs with;
    text[0] = '\0';
    shape.recompute = 1;
    if (!shape.train || estimate(b, b->use, &shape, &with, NULL) != NABLA_OK || with.run >= n->run) return;
    snprintf(text, room, "--activation-checkpointing (a pass then takes %s), ",
             cli_format_bytes(with.run, less, sizeof less));
}

static int refuse(const bench *b, const needs *n, double has, double host_has) {
    char text[4][24], host[2][24], less[128], offloaded[128] = "";
    tell_less(b, n, less, sizeof less);
    if (n->host > 0)
        snprintf(offloaded, sizeof offloaded, ", with %s of the host's %s for those of its blocks,",
                 cli_format_bytes(n->host, host[0], sizeof host[0]),
                 cli_format_bytes(host_has, host[1], sizeof host[1]));
    return cli_fail(
        "bench",
        "weights of %s%s %s of %s and %s for a pass do not fit the %s that are available: give %sa smaller "
        "--grid or --size",
        cli_format_bytes(n->model, text[0], sizeof text[0]), *offloaded ? offloaded : ",",
        b->shape.train ? "the optimizer and inputs" : "inputs", cli_format_bytes(n->beside, text[1], sizeof text[1]),
        cli_format_bytes(n->run, text[2], sizeof text[2]), cli_format_bytes(has, text[3], sizeof text[3]), less);
}

static void tell(const bench *b, const needs *n, double has) {
    char text[4][24], host[24];
    if (b->common->quiet) return;
    cli_note("weights %s, %s %s, a pass %s, available %s", cli_format_bytes(n->model, text[0], sizeof text[0]),
             b->shape.train ? "the optimizer and inputs" : "inputs",
             cli_format_bytes(n->beside, text[1], sizeof text[1]), cli_format_bytes(n->run, text[2], sizeof text[2]),
             cli_format_bytes(has, text[3], sizeof text[3]));
    if (n->host > 0)
        cli_note("%s: %s of weights stay in the host's memory, two blocks at a time come to the GPU",
                 b->s->offload ? "offloading" : "offloading, as the weights do not all fit",
                 cli_format_bytes(n->host, host, sizeof host));
}

/* Before anything is taken. Weights that do not fit a GPU stay with the host, asked for or not. */
static int check_memory(bench *b) {
    needs n, with;
    nv_device_memory memory;
    nv_error err = {0};
    int code = b->use == NV_DIT_OFFLOAD ? fail(nv_dit_check_offload(b->device, &err), &err) : 0;
    if (!code) code = fail(estimate(b, b->use, &b->shape, &n, &err), &err);
    if (code) return code;
    b->device->ops->memory(b->device, &memory);
    const double has = memory.available > 0 ? memory.available : INFINITY, host_has = nv_memory_available();
    if (on_device(&n) > has && b->use == NV_DIT_INFER && nv_dit_check_offload(b->device, NULL) == NABLA_OK &&
        estimate(b, NV_DIT_OFFLOAD, &b->shape, &with, NULL) == NABLA_OK) {
        n = with;
        b->use = NV_DIT_OFFLOAD;
    }
    if (on_device(&n) > has || (host_has > 0 && n.host > host_has)) return refuse(b, &n, has, host_has);
    tell(b, &n, memory.available);
    return 0;
}

static nabla_status take(bench *b, size_t count, uint64_t stream, float scale, float **out, nv_error *err) {
    nv_device *dev = b->device;
    float *host = cli_random_numbers(b->s->seed.value, stream, count, scale, err);
    if (!host) return NABLA_OUT_OF_MEMORY;
    const nabla_status status = dev->ops->allocate(dev, count * sizeof *host, (void **)out, err);
    if (status == NABLA_OK) dev->ops->upload(dev, *out, host, count * sizeof *host);
    free(host);
    return status;
}

static nabla_status make(bench *b, nv_error *err) {
    const numbers n = numbers_of(b);
    cli_bench_step *step = &b->step;
    NV_TRY(nv_dit_create(b->device, &b->size.config, b->dtype, b->use, &b->model, err));
    NV_TRY(nv_dit_randomise(b->model, b->s->seed.value, err));
    NV_TRY(nv_dit_run_create(b->model, &b->shape, &b->run, err));
    NV_TRY(take(b, n.in, 1, 1.0f, &b->latent, err));
    NV_TRY(take(b, (size_t)b->shape.batch, 2, 100.0f, &b->time, err)); /* any time will do */
    NV_TRY(take(b, n.text, 3, 1.0f, &b->context, err));
    NV_TRY(take(b, n.out, 4, 1.0f, &b->out, err));
    if (!b->shape.train) return b->device->ops->wait(b->device, err);
    *step = (cli_bench_step){.device = b->device, .model = b->model, .run = b->run, .batch = b->shape.batch};
    step->values = (int64_t)(n.out / (size_t)step->batch);
    NV_TRY(take(b, n.out, 5, 1.0f, &step->target, err));
    NV_TRY(take(b, n.text, 6, 1.0f, &step->d_context, err));
    NV_TRY(cli_bench_step_open(step, err));
    return b->device->ops->wait(b->device, err);
}

static void drop(bench *b) {
    float *const all[] = {b->latent, b->time, b->context, b->out, b->step.target, b->step.d_context};
    nv_repeat_forget(&b->repeat);
    cli_bench_step_close(&b->step);
    nv_dit_run_destroy(b->run);
    nv_dit_destroy(b->model);
    for (size_t i = 0; b->device && i < sizeof all / sizeof *all; i++)
        b->device->ops->release(b->device, all[i]);
    nv_device_destroy(b->device);
}

/* ------------------------------------------------------------------ timing */

typedef struct result {
    const char *pass;
    nv_dit_stats stats;
    double seconds, memory;
} result;

static nabla_status queue_pass(void *user, nv_error *err) {
    bench *b = user;
    return nv_dit_forward(b->model, b->run, &b->in, b->out, err);
}

/* A guided step is two passes. What a training step does outside of the model's passes is of the rest. */
static nabla_status run_once(bench *b, int backward, result *r, nv_error *err) {
    const int passes = b->s->guided && !backward ? 2 : 1;
    nv_dit_stats sum = {0};
    const double begin = nv_now();
    for (int i = 0; i < passes; i++) {
        nv_dit_stats s;
        NV_TRY(backward ? cli_bench_step_take(&b->step, &b->in, b->out, err)
                        : nv_repeat_queue(&b->repeat, queue_pass, b, err));
        NV_TRY(nv_dit_get_stats(b->run, &s, err));
        if (!backward) nv_repeat_done(&b->repeat);
        sum.density = s.density;
        sum.plan_s += s.plan_s;
        sum.attention_s += s.attention_s;
        sum.products_s += s.products_s;
        sum.weights_s += s.weights_s;
        sum.product_flop += s.product_flop;
        sum.attention_flop += s.attention_flop;
    }
    const double took = nv_now() - begin;
    sum.other_s = took - sum.plan_s - sum.attention_s - sum.products_s - sum.weights_s;
    if (r->seconds > 0 && took >= r->seconds) return NABLA_OK;
    r->seconds = took;
    r->stats = sum;
    return NABLA_OK;
}

/* The pass as a part of the engine, and its wait for weights as another, as where the engine samples. */
static int report_profile(bench *b, const char *what, const result *r, json_t *figures) {
    const nv_dit_stats *s = &r->stats;
    const nabla_video_part_time wait = {.seconds = s->weights_s};
    const nabla_video_part_time pass = {.seconds = r->seconds - s->weights_s,
                                        .products_s = s->products_s,
                                        .attention_s = s->attention_s,
                                        .plan_s = s->plan_s,
                                        .product_flop = s->product_flop,
                                        .attention_flop = s->attention_flop,
                                        .compute = b->dtype};
    b->profile.count = 0;
    cli_profile_add_part(&b->profile, nabla_video_part_name(NABLA_PART_TRANSFORMER), &pass);
    cli_profile_add_part(&b->profile, nabla_video_part_name(NABLA_PART_WAIT), &wait);
    if (b->common->profile && !figures) cli_note("%s, %s", what, r->pass);
    return cli_profile_report("bench", b->common, &b->profile, figures);
}

static int report(bench *b, const char *what, const result *r) {
    const nv_dit_stats *s = &r->stats;
    json_t *figures = NULL;
    const double flop = s->product_flop + s->attention_flop;
    const long long tokens = (long long)b->shape.frames / b->size.config.patch[0] * b->shape.height /
                             b->size.config.patch[1] * b->shape.width / b->size.config.patch[2];
    const char *dtype = b->dtype == NABLA_BF16 ? "bf16" : "fp32";
    if (b->json)
        figures = json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
            "size", b->size.name, "policy", what, "pass", r->pass, "dtype", dtype, "device", b->device->kind, "level",
            b->device->level, "batch", (int)b->shape.batch, "tokens", (json_int_t)tokens, "density", s->density,
            "seconds", r->seconds, "products_s", s->products_s, "attention_s", s->attention_s, "plan_s", s->plan_s,
            "other_s", s->other_s, "flops", flop / r->seconds, "product_flops", s->product_flop / s->products_s,
            "attention_flops", s->attention_flop / s->attention_s, "peak_product_flops", b->peak, "memory", r->memory,
            "weights_s", s->weights_s);
    else if (!b->printed++)
        printf("%-22s %-8s %7s %9s %10s %11s %8s %7s %9s %9s %9s %6s%s\n", "policy", "pass", "density", "seconds",
               "products s", "attention s", "mask s", "rest s", "GFLOP/s", "products", "attention", "GB",
               b->use == NV_DIT_OFFLOAD ? " waits for weights s" : "");
    if (!b->json)
        printf("%-22s %-8s %7.4f %9.3f %10.3f %11.3f %8.3f %7.3f %9.0f %9.0f %9.0f %6.1f", what, r->pass, s->density,
               r->seconds, s->products_s, s->attention_s, s->plan_s, s->other_s, 1e-9 * flop / r->seconds,
               1e-9 * s->product_flop / s->products_s, 1e-9 * s->attention_flop / s->attention_s, 1e-9 * r->memory);
    if (!b->json && b->use == NV_DIT_OFFLOAD) printf(" %19.3f", s->weights_s);
    if (!b->json) printf("\n");
    fflush(stdout);
    if (b->csv.file)
        fprintf(b->csv.file, "%s,%s,%s,%s,%s,%s,%d,%lld,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%.1f,%.1f,%.1f,%.1f,%.0f,%.6f\n",
                b->size.name, what, r->pass, dtype, b->device->kind, b->device->level, (int)b->shape.batch, tokens,
                s->density, r->seconds, s->products_s, s->attention_s, s->plan_s, s->other_s, 1e-9 * flop / r->seconds,
                1e-9 * s->product_flop / s->products_s, 1e-9 * s->attention_flop / s->attention_s, 1e-9 * b->peak,
                r->memory, s->weights_s);
    const int code = report_profile(b, what, r, figures);
    if (figures) json_array_append_new(b->json, figures);
    return code;
}

static const char *pass_name(const bench *b, int backward) {
    if (backward) return b->shape.recompute ? "train-ac" : "train"; /* ac: activation checkpointing */
    if (b->s->replay) return b->s->guided ? "guided replay" : "replay";
    if (b->use == NV_DIT_OFFLOAD) return b->s->guided ? "guided offloaded" : "forward offloaded";
    return b->s->guided ? "guided" : "forward";
}

/* Over the lists that are there where policy is NULL. The first pass makes and chooses things and is not counted; nor
   are the two more in front of replays. */
static int measure(bench *b, const char *what, const nabla_policy *policy, int backward) {
    result r = {.pass = pass_name(b, backward)};
    const int32_t warm = b->s->replay ? 3 : 1;
    nv_device_memory memory;
    nv_error err = {0};
    nv_repeat_forget(&b->repeat);
    b->in = (nv_dit_inputs){.latent = b->latent, .time = b->time, .context = b->context, .policy = policy};
    for (int32_t i = 0; i < warm + b->s->repeat; i++) {
        if (i == warm) r.seconds = 0;
        const int code = fail(run_once(b, backward, &r, &err), &err);
        if (code) return code;
        if (cli_stop_asked()) return cli_interrupted("bench");
    }
    b->device->ops->memory(b->device, &memory);
    r.memory = memory.held;
    return report(b, what, &r);
}

static int measure_both(bench *b, const char *what, const nabla_policy *policy) {
    const int code = measure(b, what, policy, 0);
    return code || !b->s->backward ? code : measure(b, what, policy, 1);
}

static int measure_all(bench *b, const cli_list *policies) {
    char what[32];
    nv_error err = {0};
    int code = 0;
    if (b->s->density > 0) {
        snprintf(what, sizeof what, "random %.4g", (double)b->s->density);
        code = fail(cli_bench_lists(b->device, b->run, (int64_t)b->shape.batch * b->size.config.heads,
                                    (double)b->s->density, b->s->seed.value, &err),
                    &err);
        if (!code) code = measure_both(b, what, NULL);
    }
    for (int32_t i = 0; i < policies->count && !code; i++) {
        nabla_policy policy;
        code = cli_policy("bench", b->device->context, policies->item[i], &policy);
        if (!code) code = measure_both(b, policies->item[i], &policy);
    }
    return code;
}

/* On a device of its own: its factors are not what the model holds. */
static int find_peak(bench *b) {
    nv_device *device = NULL;
    nv_error err = {0};
    nabla_status status = nv_device_create(&b->on, &device, &err);
    if (status == NABLA_OK) status = cli_product_peak(device, b->dtype, b->s->seed.value, &b->peak, &err);
    nv_device_destroy(device);
    return fail(status, &err);
}

static int run(bench *b, const cli_list *policies) {
    nv_error err = {0};
    if (b->s->replay && !b->device->ops->record)
        return cli_misuse("bench", "--replay needs a device that records its work, and a CPU has nothing to record: "
                                   "give --device cuda");
    int code = check_memory(b);
    if (!code && b->s->replay && b->use == NV_DIT_OFFLOAD)
        code =
            cli_misuse("bench", "--replay needs all weights on the GPU: what is offloaded comes there as it is used");
    b->repeat = nv_repeat_of(b->device, b->s->replay ? NV_REPLAY_ALWAYS : NV_REPLAY_NEVER);
    if (!code) code = find_peak(b);
    if (!code) code = fail(make(b, &err), &err);
    if (!code && !b->common->quiet)
        cli_note("%s, level %s, products by %s, at most %.0f GFLOP/s", b->device->kind, b->device->level,
                 nv_device_products(b->device, b->dtype), 1e-9 * b->peak);
    if (!code) code = cli_bench_open(b->s->output, &b->csv);
    if (code) return code;
    if (b->csv.file)
        fprintf(b->csv.file, "size,policy,pass,dtype,device,level,batch,tokens,density,seconds,products_s,attention_s,"
                             "plan_s,other_s,gflops,product_gflops,attention_gflops,peak_gflops,memory,weights_s\n");
    if (b->common->json) b->json = json_array();
    code = measure_all(b, policies);
    code = cli_bench_close(b->s->output, &b->csv, code);
    if (!code && b->json) return cli_print_json("bench", b->json);
    json_decref(b->json);
    return code;
}

/* ------------------------------------------------------------------ the flags */

static int open_device(bench *b) {
    nv_device_options *options = &b->on;
    int64_t threads = 0;
    nv_error err = {0};
    int code = cli_device("bench", b->common, &options->device, &options->ordinal);
    if (!code && b->s->threads && !cli_read_int(b->s->threads, 1, 4096, &threads))
        code =
            cli_misuse("bench", "--threads takes one whole number from 1 to 4096 for a model, not '%s'", b->s->threads);
    if (!code) code = cli_check_device("bench", b->common);
    options->level = b->common->level;
    options->threads = (int32_t)threads;
    return code ? code : fail(nv_device_create(options, &b->device, &err), &err);
}

static int read_flags(bench *b, cli_list *policies) {
    cli_list dtypes = {0};
    int32_t grid[3];
    int code = find_size(b->s->size, b->s->layers, &b->size);
    if (!code) code = cli_bench_dtypes(b->s->dtypes, &dtypes);
    if (!code && dtypes.count != 1) code = cli_misuse("bench", "--dtypes takes one of them for a transformer");
    if (!code && !cli_read_box(b->s->grids, 3, 1, 1 << 20, grid))
        code = cli_misuse("bench", "--grid takes one frames x height x width such as 21x48x80, not '%s'", b->s->grids);
    if (!code && b->s->policies) code = cli_list_read("bench", "policies", b->s->policies, policies);
    if (code) return code;
    b->dtype = strcmp(dtypes.item[0], "bf16") == 0 ? NABLA_BF16 : NABLA_FP32;
    b->shape = shape_of(b, grid);
    b->use = b->s->backward ? NV_DIT_TRAIN : b->s->offload ? NV_DIT_OFFLOAD : NV_DIT_INFER;
    return 0;
}

static int check_policies(const bench *b, const cli_list *policies) {
    int code = cli_bench_check_policies(b->device->context, policies);
    for (int32_t i = 0; !code && b->s->backward && i < policies->count; i++) {
        nabla_policy policy;
        code = cli_policy("bench", b->device->context, policies->item[i], &policy);
        if (!code && policy.int8)
            code =
                cli_misuse("bench", "policy %s: attention in int8 has no backward pass: leave --backward or _int8 out",
                           policies->item[i]);
    }
    return code;
}

int cli_bench_dit(const cli_common *common, const cli_bench_settings *s) {
    bench b = {.common = common, .s = s};
    cli_list policies = {0};
    int code = read_flags(&b, &policies);
    if (!code) code = open_device(&b);
    if (!code) code = check_policies(&b, &policies);
    if (!code) code = run(&b, &policies);
    drop(&b);
    return code;
}

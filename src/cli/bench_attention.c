/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over grids, policies, dtypes and thread counts. Rounds go through all cases before any is timed again, so
   that a busy machine slows all of them alike, and each reports its least time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/machine.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "tensor/bf16.h"
#include "tensor/random.h"

/* One row of the table. */
typedef struct bench_case {
    int32_t policy, machine; /* indices: of the list of policies, of the contexts */
    double plan_s, forward_s, backward_s;
    nabla_plan_stats stats;
} bench_case;

/* Tensors of one grid and dtype: raster order does not matter for time, so they are made in tile order at once. */
typedef struct bench_data {
    int32_t grid[3];
    nabla_dtype dtype;
    int64_t tokens;
    nabla_tensor q, k, v, o, d_o, dq, dk, dv, lse;
} bench_data;

typedef struct bench {
    const cli_common *common;
    const cli_bench_settings *s;
    cli_list grids, policies, dtypes;
    nabla_context *machines[CLI_LIST_MOST]; /* one a thread count; kept, so that scratch is warm */
    int32_t machine_count;
    bench_data data;
    json_t *json;
    cli_bench_csv csv;
    int printed; /* the table's head */
} bench;

/* ------------------------------------------------------------------ tensors */

static int no_memory(void) {
    return cli_fail("bench", "out of memory: give a smaller --grid or fewer --heads");
}

/* Memory of the device; contexts of one device share it. */
static int make_tensor(const bench *b, nabla_dtype dtype, nabla_tensor *t) {
    const int64_t shape[4] = {b->s->batch, b->data.tokens, b->s->heads, b->s->head_dim};
    const size_t count = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    *t = nabla_tensor_contiguous(NULL, dtype, 4, shape);
    return nabla_memory_allocate(b->machines[0], count * nabla_dtype_size(dtype), &t->data) ? no_memory() : 0;
}

static void store(const nabla_tensor *t, size_t i, float value) {
    if (t->dtype == NABLA_BF16)
        ((nv_bf16 *)t->data)[i] = nv_bf16_from_float(value);
    else
        ((float *)t->data)[i] = value;
}

/* Noise, plus (for queries and keys) waves over the grid that both share: near tokens attend to each other, as in a
   video, so that block scores have something to find. */
static void fill(const bench *b, const int32_t *raster, const nabla_tensor *t, uint64_t stream, int waves) {
    const int32_t dim = b->s->head_dim, heads = b->s->heads, *g = b->data.grid;
    nv_philox noise = nv_philox_at(b->s->seed.value, stream);
    float frequency[256][3], row[256];
    nv_philox shape = nv_philox_at(b->s->seed.value, 0);
    for (int32_t d = 0; d < dim; d++)
        for (int axis = 0; axis < 3; axis++)
            frequency[d][axis] = 6.2831853f * (nv_philox_uniform(&shape) - 0.5f) / (axis == 0 ? 4.0f : 16.0f);
    size_t at = 0;
    for (int64_t i = 0; i < (int64_t)b->s->batch * b->data.tokens; i++) {
        const int32_t token = raster[i % b->data.tokens];
        const float f = (float)(token / (g[1] * g[2])), h = (float)(token / g[2] % g[1]), w = (float)(token % g[2]);
        for (int32_t head = 0; head < heads; head++) {
            nv_philox_normal(&noise, row, (size_t)dim);
            for (int32_t d = 0; d < dim; d++) {
                const float *c = frequency[d];
                const float wave = waves ? 1.4f * cosf(c[0] * f + c[1] * h + c[2] * w + (float)d) : 0;
                store(t, at++, row[d] + wave);
            }
        }
    }
}

/* The same for a tensor of the device: made on the host where that cannot be written from here. */
static int fill_there(const bench *b, const int32_t *raster, const nabla_tensor *t, uint64_t stream, int waves) {
    if (nabla_context_device(b->machines[0]) == NABLA_CPU) {
        fill(b, raster, t, stream, waves);
        return 0;
    }
    const size_t bytes = (size_t)(t->shape[0] * t->stride[0]) * nabla_dtype_size(t->dtype);
    nabla_tensor host = *t;
    host.data = malloc(bytes);
    if (!host.data) return no_memory();
    fill(b, raster, &host, stream, waves);
    const nabla_status status = nabla_memory_upload(b->machines[0], t->data, host.data, bytes);
    free(host.data);
    return status ? cli_fail_status("bench", status, nabla_context_message(b->machines[0])) : 0;
}

static void release(bench *b) {
    bench_data *data = &b->data;
    nabla_tensor *const all[] = {&data->q,  &data->k,  &data->v,  &data->o,  &data->d_o,
                                 &data->dq, &data->dk, &data->dv, &data->lse};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        nabla_memory_free(b->machines[0], all[i]->data);
        all[i]->data = NULL;
    }
}

static int make_data(bench *b, const int32_t *raster) {
    bench_data *data = &b->data;
    const int64_t lse_shape[3] = {b->s->batch, b->s->heads, data->tokens};
    const size_t rows = (size_t)(lse_shape[0] * lse_shape[1] * lse_shape[2]);
    int code = make_tensor(b, data->dtype, &data->q);
    if (!code) code = make_tensor(b, data->dtype, &data->k);
    if (!code) code = make_tensor(b, data->dtype, &data->v);
    if (!code) code = make_tensor(b, data->dtype, &data->o);
    if (!code && b->s->backward) code = make_tensor(b, data->dtype, &data->d_o);
    if (!code && b->s->backward) code = make_tensor(b, NABLA_FP32, &data->dq);
    if (!code && b->s->backward) code = make_tensor(b, NABLA_FP32, &data->dk);
    if (!code && b->s->backward) code = make_tensor(b, NABLA_FP32, &data->dv);
    data->lse = nabla_tensor_contiguous(NULL, NABLA_FP32, 3, lse_shape);
    if (!code && nabla_memory_allocate(b->machines[0], rows * sizeof(float), &data->lse.data)) code = no_memory();
    if (!code) code = fill_there(b, raster, &data->q, 1, 1);
    if (!code) code = fill_there(b, raster, &data->k, 2, 1);
    if (!code) code = fill_there(b, raster, &data->v, 3, 0);
    if (!code && b->s->backward) code = fill_there(b, raster, &data->d_o, 4, 0);
    return code;
}

/* ------------------------------------------------------------------ timing */

static void keep_least(double *least, double seconds) {
    if (*least == 0 || seconds < *least) *least = seconds;
}

static nabla_status time_plan(bench *b, nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy,
                              bench_case *c) {
    nabla_plan_inputs inputs = nabla_plan_inputs_default();
    nabla_attention_params params = nabla_attention_params_default();
    params.deterministic = !b->s->any_order;
    bench_data *d = &b->data;
    inputs.q = &d->q;
    inputs.k = &d->k;
    nabla_status status = nabla_context_synchronize(ctx);
    const double began = cli_seconds();
    if (status == NABLA_OK) status = nabla_plan_build(ctx, plan, policy, &inputs);
    if (status == NABLA_OK) status = nabla_context_synchronize(ctx);
    const double planned = cli_seconds();
    if (status == NABLA_OK) status = nabla_attention_forward(ctx, plan, &params, &d->q, &d->k, &d->v, &d->o, &d->lse);
    if (status == NABLA_OK) status = nabla_context_synchronize(ctx);
    const double forward = cli_seconds();
    if (status == NABLA_OK && b->s->backward)
        status = nabla_attention_backward(ctx, plan, &params, &d->q, &d->k, &d->v, &d->o, &d->lse, &d->d_o, &d->dq,
                                          &d->dk, &d->dv);
    if (status == NABLA_OK) status = nabla_context_synchronize(ctx);
    keep_least(&c->plan_s, planned - began);
    keep_least(&c->forward_s, forward - planned);
    if (b->s->backward) keep_least(&c->backward_s, cli_seconds() - forward);
    c->stats.size = sizeof c->stats;
    if (status == NABLA_OK) status = nabla_plan_get_stats(ctx, plan, &c->stats);
    return status;
}

/* One run of one case. */
static int time_case(bench *b, bench_case *c) {
    nabla_context *ctx = b->machines[c->machine];
    nabla_policy policy;
    nabla_order *order = NULL;
    nabla_plan *plan = NULL;
    int code = 0;
    const nabla_grid grid = nabla_grid_default(b->data.grid[0], b->data.grid[1], b->data.grid[2]);
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_status status = nabla_policy_parse(ctx, b->policies.item[c->policy], &policy);
    if (status == NABLA_OK) status = nabla_order_create(ctx, &grid, &order);
    if (status == NABLA_OK && !b->data.q.data) code = make_data(b, nabla_order_raster(order));
    desc.batch = b->s->batch;
    desc.heads = b->s->heads;
    desc.q_order = desc.k_order = order;
    desc.backward = b->s->backward;
    if (status == NABLA_OK && !code) status = nabla_plan_create(ctx, &desc, &plan);
    if (status == NABLA_OK && !code) status = time_plan(b, ctx, plan, &policy, c);
    if (status != NABLA_OK) code = cli_fail_status("bench", status, nabla_context_message(ctx));
    nabla_plan_destroy(plan);
    nabla_order_destroy(order);
    return code ? code : cli_stop_asked() ? cli_interrupted("bench") : 0;
}

/* ------------------------------------------------------------------ figures */

/* What is said about a case; NaN where there is nothing to say. */
typedef struct figures {
    char grid[48];
    const char *dtype, *policy;
    int32_t threads;
    double plan_s, forward_s, backward_s, forward_gflops, backward_gflops;
    double forward_ratio, backward_ratio; /* how often faster than the first policy; plan and forward, backward */
    double threads_ratio;                 /* how often faster, in all, than with the first number of threads */
} figures;

static double total(const bench_case *c) {
    return c->plan_s + c->forward_s + c->backward_s;
}

/* cases: machine by machine, and policy by policy in each. */
static figures work_out(const bench *b, const bench_case *cases, const bench_case *c) {
    const bench_case *first = &cases[c->machine * b->policies.count], *alone = &cases[c->policy];
    const int32_t *grid = b->data.grid;
    /* Two products of D terms a visited pair, each a multiplication and an addition; five in the backward pass. */
    const double visited = 4e-9 * c->stats.density * (double)b->s->batch * b->s->heads * (double)b->data.tokens *
                           (double)b->data.tokens * b->s->head_dim;
    figures f = {.dtype = b->data.dtype == NABLA_BF16 ? "bf16" : "fp32",
                 .policy = b->policies.item[c->policy],
                 .threads = nabla_context_threads(b->machines[c->machine]),
                 .plan_s = c->plan_s,
                 .forward_s = c->forward_s,
                 .backward_s = NAN,
                 .forward_gflops = visited / c->forward_s,
                 .backward_gflops = NAN,
                 .forward_ratio = (first->plan_s + first->forward_s) / (c->plan_s + c->forward_s),
                 .backward_ratio = NAN,
                 .threads_ratio = total(alone) / total(c)};
    snprintf(f.grid, sizeof f.grid, "%dx%dx%d", grid[0], grid[1], grid[2]);
    if (b->s->backward) {
        f.backward_s = c->backward_s;
        f.backward_gflops = 2.5 * visited / c->backward_s;
        f.backward_ratio = first->backward_s / c->backward_s;
    }
    return f;
}

static const char csv_head[] = "grid,tokens,batch,heads,head_dim,dtype,policy,threads,density,kept_mass,plan_s,"
                               "forward_s,forward_gflops,forward_ratio,backward_s,backward_gflops,backward_ratio,"
                               "threads_ratio,deterministic,device,level\n";

static const char *device_name(const bench *b) {
    return b->common->device ? b->common->device : "cpu";
}

static void write_csv(const bench *b, const bench_case *c, const figures *f) {
    fprintf(b->csv.file, "%s,%lld,%d,%d,%d,%s,%s,%d,%.6f,%.6f,%.9f,%.9f,%.3f,%.4f,%.9f,%.3f,%.4f,%.4f,%d,%s,%s\n",
            f->grid, (long long)b->data.tokens, b->s->batch, b->s->heads, b->s->head_dim, f->dtype, f->policy,
            f->threads, c->stats.density, c->stats.kept_mass, f->plan_s, f->forward_s, f->forward_gflops,
            f->forward_ratio, f->backward_s, f->backward_gflops, f->backward_ratio, f->threads_ratio, !b->s->any_order,
            device_name(b), nabla_context_level(b->machines[c->machine]));
}

static void add_json(const bench *b, const bench_case *c, const figures *f) {
    json_t *one =
        json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:s, s:s, s:i, s:f, s:o, s:b}", "device", device_name(b),
                  "level", nabla_context_level(b->machines[c->machine]), "grid", f->grid, "tokens",
                  (json_int_t)b->data.tokens, "batch", b->s->batch, "heads", b->s->heads, "head_dim", b->s->head_dim,
                  "dtype", f->dtype, "policy", f->policy, "threads", f->threads, "density", c->stats.density,
                  "kept_mass", cli_json_real(c->stats.kept_mass), "deterministic", !b->s->any_order);
    const struct {
        const char *name;
        double value;
    } rest[] = {{"plan_s", f->plan_s},
                {"forward_s", f->forward_s},
                {"forward_gflops", f->forward_gflops},
                {"forward_ratio", f->forward_ratio},
                {"backward_s", f->backward_s},
                {"backward_gflops", f->backward_gflops},
                {"backward_ratio", f->backward_ratio},
                {"threads_ratio", f->threads_ratio}};
    for (int32_t i = 0; i < CLI_COUNT(rest); i++)
        json_object_set_new(one, rest[i].name, cli_json_real(rest[i].value));
    json_array_append_new(b->json, one);
}

static void print_row(bench *b, const bench_case *c, const figures *f) {
    if (!b->printed++)
        printf("%-10s %-5s %3s  %-22s %7s %9s %10s %8s %6s%s%s\n", "grid", "dtype", "thr", "policy", "density",
               "plan ms", "forward ms", "GFLOP/s", "ratio", b->s->backward ? " backward ms  GFLOP/s  ratio" : "",
               b->machine_count > 1 ? " threads" : "");
    printf("%-10s %-5s %3d  %-22s %7.4f %9.3f %10.3f %8.1f %6.2f", f->grid, f->dtype, f->threads, f->policy,
           c->stats.density, 1e3 * f->plan_s, 1e3 * f->forward_s, f->forward_gflops, f->forward_ratio);
    if (b->s->backward) printf(" %11.3f %8.1f %6.2f", 1e3 * f->backward_s, f->backward_gflops, f->backward_ratio);
    if (b->machine_count > 1) printf(" %7.2f", f->threads_ratio);
    printf("\n");
    fflush(stdout);
}

static void report(bench *b, const bench_case *cases, const bench_case *c) {
    const figures f = work_out(b, cases, c);
    if (b->csv.file) write_csv(b, c, &f);
    if (b->json)
        add_json(b, c, &f);
    else
        print_row(b, c, &f);
}

/* All policies and thread counts on one grid and dtype. */
static int measure(bench *b, cli_progress *progress) {
    bench_case cases[CLI_LIST_MOST * CLI_LIST_MOST] = {0};
    int32_t count = 0;
    int code = 0;
    for (int32_t m = 0; m < b->machine_count; m++)
        for (int32_t p = 0; p < b->policies.count; p++) {
            cases[count].policy = p;
            cases[count++].machine = m;
        }
    for (int32_t round = 0; !code && round < b->s->repeat; round++)
        for (int32_t i = 0; !code && i < count; i++) {
            code = time_case(b, &cases[i]);
            cli_progress_report(progress, "measure", (int64_t)round * count + i + 1, (int64_t)count * b->s->repeat, "");
        }
    cli_progress_clear(progress);
    release(b);
    for (int32_t i = 0; !code && i < count; i++)
        report(b, cases, &cases[i]);
    return code;
}

/* ------------------------------------------------------------------ all of it */

static int make_machines(bench *b) {
    cli_list threads = {.count = 1, .item = {"0"}};
    cli_common common = *b->common;
    int code = b->s->threads ? cli_list_read("bench", "threads", b->s->threads, &threads) : 0;
    for (int32_t i = 0; !code && i < threads.count; i++) {
        int64_t count;
        if (!cli_read_int(threads.item[i], b->s->threads ? 1 : 0, 4096, &count))
            return cli_misuse("bench", "--threads takes whole numbers from 1 to 4096, not '%s'", threads.item[i]);
        common.threads = (int32_t)count;
        b->machines[i] = cli_context("bench", &common, &code);
        b->machine_count += b->machines[i] != NULL;
    }
    return code ? code : cli_bench_check_policies(b->machines[0], &b->policies);
}

static int choose(bench *b) {
    const cli_bench_settings *s = b->s;
    int code = cli_list_read("bench", "grid", s->grids, &b->grids);
    if (!code) code = cli_list_read("bench", "policies", s->policies, &b->policies);
    if (!code) code = cli_bench_dtypes(s->dtypes, &b->dtypes);
    if (!code && s->head_dim % 8 != 0)
        code = cli_misuse("bench", "--head-dim takes a multiple of 8 from 16 to 256, not %d", s->head_dim);
    return code ? code : make_machines(b);
}

/* Grid and dtype number i of all pairs. */
static int choose_data(bench *b, int32_t i) {
    const char *grid = b->grids.item[i / b->dtypes.count], *dtype = b->dtypes.item[i % b->dtypes.count];
    bench_data *d = &b->data;
    if (!cli_read_box(grid, 3, 1, 1 << 20, d->grid) || (double)d->grid[0] * d->grid[1] * d->grid[2] > INT32_MAX)
        return cli_misuse("bench", "--grid takes frames x height x width such as 4x32x32, not '%s'", grid);
    d->dtype = strcmp(dtype, "bf16") == 0 ? NABLA_BF16 : NABLA_FP32;
    d->tokens = (int64_t)d->grid[0] * d->grid[1] * d->grid[2];
    const double count = (double)b->s->batch * (double)d->tokens * b->s->heads * b->s->head_dim;
    const double bytes =
        count * ((b->s->backward ? 5.0 : 4.0) * (double)nabla_dtype_size(d->dtype) + (b->s->backward ? 12.0 : 0.0));
    char needed[32];
    const char *kind;
    const double available = cli_memory_available(b->common, &kind);
    if (available > 0 && bytes > available)
        return cli_fail("bench",
                        "--grid %s needs %s of %s, more than is available: give a smaller one or fewer --heads", grid,
                        cli_format_bytes(bytes, needed, sizeof needed), kind);
    return 0;
}

int cli_bench_attention(const cli_common *common, const cli_bench_settings *s) {
    bench *b = calloc(1, sizeof *b);
    if (!b) return cli_fail("bench", "out of memory");
    b->common = common;
    b->s = s;
    int code = choose(b);
    const int32_t count = code ? 0 : b->grids.count * b->dtypes.count;
    for (int32_t i = 0; !code && i < count; i++) /* a slip in the last item shows before the first is timed */
        code = choose_data(b, i);
    if (!code) code = cli_bench_open(s->output, &b->csv);
    if (b->csv.file) fputs(csv_head, b->csv.file);
    if (common->json) b->json = json_array();
    cli_progress progress = cli_progress_make(common->quiet);
    for (int32_t i = 0; !code && i < count; i++) {
        code = choose_data(b, i);
        if (!code) code = measure(b, &progress);
    }
    code = cli_bench_close(s->output, &b->csv, code);
    if (!code && b->json)
        code = cli_print_json("bench", b->json);
    else if (b->json)
        json_decref(b->json);
    for (int32_t i = 0; i < b->machine_count; i++)
        nabla_context_destroy(b->machines[i]);
    free(b);
    return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* nabla attend: block-sparse attention, forward and backward, on tensors from a file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/machine.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/qkv.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "tensor/bf16.h"

typedef struct settings {
    cli_common common;
    cli_qkv_settings qkv;
    const char *output;
    int32_t repeat;
} settings;

enum { O, LSE, DQ, DK, DV, RESULTS };

typedef struct work {
    cli_qkv in;
    nabla_tensor result[RESULTS]; /* in the device's memory; data NULL where it is not wanted */
    void *home[RESULTS];          /* copies of a GPU's on the host, once they are written */
    nabla_dtype o_dtype;
    int32_t *counts, *indices; /* the plan as lists */
    double *plan_s, *forward_s, *backward_s;
    nabla_plan_stats stats;
    double load_s, write_s, began; /* of it all, reordering included */
} work;

/* ------------------------------------------------------------------ memory */

/* The most bytes held at once: while computing, or while results are put in raster order one after the other. */
static int check_memory(work *w, int output) {
    const cli_qkv *c = &w->in;
    const double nq = (double)c->batch * (double)c->q_tokens * (double)c->heads * (double)c->head_dim;
    const double nk = (double)c->batch * (double)c->k_tokens * (double)c->heads * (double)c->head_dim;
    const double size = (double)nabla_dtype_size(c->compute), o_size = (double)nabla_dtype_size(w->o_dtype);
    const int backward = c->do_entry != NULL;
    size_t plan = 0, scratch = 0;
    nabla_status status = nabla_plan_memory(c->ctx, &c->desc, &plan);
    if (status == NABLA_OK)
        status = nabla_attention_memory(c->ctx, &c->desc, NULL, c->compute, c->head_dim, backward, &scratch);
    if (status != NABLA_OK) return cli_qkv_fail(c, status);
    const double inputs = size * (nq + 2 * nk) + (backward ? 4 * nq : 0);
    const double results = o_size * nq + 4 * nq / (double)c->head_dim + (backward ? 4 * (nq + 2 * nk) : 0);
    const double blocks = (double)nabla_order_blocks(c->q_order);
    const double k_blocks = c->k_order ? (double)nabla_order_blocks(c->k_order) : ceil((double)c->k_tokens / 64);
    const double lists = 4.0 * (double)c->batch * (double)c->heads * blocks * (k_blocks + 1);
    const double computing = inputs + results + (double)scratch;
    const double writing = output ? results + 4 * fmax(nq, nk) + lists : 0;
    return cli_qkv_check_memory(c, (double)plan + fmax(computing, writing));
}

static int allocate(work *w) {
    cli_qkv *c = &w->in;
    const int64_t lse_shape[3] = {c->batch, c->heads, c->q_tokens};
    const size_t lse_bytes = (size_t)(c->batch * c->heads * c->q_tokens) * sizeof(float);
    cli_qkv_tensor(c, c->q_tokens, w->o_dtype, &w->result[O]);
    w->result[LSE] = nabla_tensor_contiguous(NULL, NABLA_FP32, 3, lse_shape);
    nabla_memory_allocate(c->ctx, lse_bytes, &w->result[LSE].data);
    if (!w->result[O].data || !w->result[LSE].data) return cli_qkv_no_memory(c);
    if (!c->do_entry) return 0;
    cli_qkv_tensor(c, c->q_tokens, NABLA_FP32, &w->result[DQ]);
    cli_qkv_tensor(c, c->k_tokens, NABLA_FP32, &w->result[DK]);
    cli_qkv_tensor(c, c->k_tokens, NABLA_FP32, &w->result[DV]);
    return w->result[DQ].data && w->result[DK].data && w->result[DV].data ? 0 : cli_qkv_no_memory(c);
}

static int load(work *w) {
    cli_qkv *c = &w->in;
    int code = cli_qkv_load(c, c->q_entry, c->q_order, c->compute, &c->q);
    if (!code) code = cli_qkv_load(c, c->k_entry, c->k_order, c->compute, &c->k);
    if (!code) code = cli_qkv_load(c, c->v_entry, c->k_order, c->compute, &c->v);
    if (code || !c->do_entry) return code;
    /* The gradient may stay finer than the computation, never the other way. */
    const nabla_dtype dtype = c->do_entry->dtype == NV_ST_BF16 ? c->compute : NABLA_FP32;
    return cli_qkv_load(c, c->do_entry, c->q_order, dtype, &c->d_o);
}

/* ------------------------------------------------------------------ computing */

static int compute_once(work *w, float scale, int32_t i) {
    cli_qkv *c = &w->in;
    nabla_attention_params params = nabla_attention_params_default();
    params.scale = scale;
    const double began = cli_seconds();
    const int code = cli_qkv_plan(c, scale);
    if (code) return code;
    const double planned = cli_seconds();
    nabla_status status =
        nabla_attention_forward(c->ctx, c->plan, &params, &c->q, &c->k, &c->v, &w->result[O], &w->result[LSE]);
    if (status == NABLA_OK) status = nabla_context_synchronize(c->ctx);
    const double forward = cli_seconds();
    if (status == NABLA_OK && c->do_entry)
        status = nabla_attention_backward(c->ctx, c->plan, &params, &c->q, &c->k, &c->v, &w->result[O], &w->result[LSE],
                                          &c->d_o, &w->result[DQ], &w->result[DK], &w->result[DV]);
    if (status == NABLA_OK) status = nabla_context_synchronize(c->ctx);
    if (status != NABLA_OK) return cli_qkv_fail(c, status);
    w->plan_s[i] = planned - began;
    w->forward_s[i] = forward - planned;
    w->backward_s[i] = cli_seconds() - forward;
    return cli_stop_asked() ? cli_interrupted(c->verb) : 0;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int32_t count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static int compute(work *w, const settings *s) {
    w->plan_s = calloc((size_t)s->repeat, sizeof(double));
    w->forward_s = calloc((size_t)s->repeat, sizeof(double));
    w->backward_s = calloc((size_t)s->repeat, sizeof(double));
    if (!w->plan_s || !w->forward_s || !w->backward_s) return cli_qkv_no_memory(&w->in);
    for (int32_t i = 0; i < s->repeat; i++) {
        const int code = compute_once(w, s->qkv.scale, i);
        if (code) return code;
    }
    w->stats.size = sizeof w->stats;
    const nabla_status status = nabla_plan_get_stats(w->in.ctx, w->in.plan, &w->stats);
    return status == NABLA_OK ? 0 : cli_qkv_fail(&w->in, status);
}

/* ------------------------------------------------------------------ results */

/* tensor, rank 4 in tile order -> raster order, in new memory; the old is freed. */
static int to_raster(cli_qkv *c, const nabla_order *order, nabla_tensor *tensor) {
    if (!order) return 0;
    nabla_tensor raster;
    cli_qkv_tensor(c, tensor->shape[1], tensor->dtype, &raster);
    if (!raster.data) return cli_qkv_no_memory(c);
    const nabla_status status = nabla_order_undo(c->ctx, order, tensor, &raster);
    cli_qkv_free(c, tensor);
    *tensor = raster;
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

/* [B, H, S] is a batch of B H rows of S, which is what an order takes. */
static int lse_to_raster(work *w) {
    cli_qkv *c = &w->in;
    const int64_t shape[2] = {c->batch * c->heads, c->q_tokens};
    const size_t bytes = (size_t)(shape[0] * shape[1]) * sizeof(float);
    nabla_tensor tiles = nabla_tensor_contiguous(w->result[LSE].data, NABLA_FP32, 2, shape), raster = tiles;
    if (nabla_memory_allocate(c->ctx, bytes, &raster.data) != NABLA_OK) return cli_qkv_no_memory(c);
    const nabla_status status = nabla_order_undo(c->ctx, c->q_order, &tiles, &raster);
    cli_qkv_free(c, &w->result[LSE]);
    w->result[LSE].data = raster.data;
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

static void release_inputs(cli_qkv *c) {
    nabla_tensor *const inputs[] = {&c->q, &c->k, &c->v, &c->d_o};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++)
        cli_qkv_free(c, inputs[i]);
}

/* Where the values of a result are on the host: a GPU's come home first. NULL when memory ran out. */
static void *host_values(work *w, int which) {
    const nabla_tensor *t = &w->result[which];
    size_t bytes = nabla_dtype_size(t->dtype);
    if (!t->data || nabla_context_device(w->in.ctx) == NABLA_CPU) return t->data;
    for (int32_t i = 0; i < t->rank; i++)
        bytes *= (size_t)t->shape[i];
    w->home[which] = malloc(bytes);
    if (w->home[which] && nabla_memory_download(w->in.ctx, w->home[which], t->data, bytes) != NABLA_OK) {
        free(w->home[which]);
        w->home[which] = NULL;
    }
    return w->home[which];
}

/* fp32 -> bf16 where it lies, front to back. */
static void round_in_place(char *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, data + i * sizeof value, sizeof value);
        const nv_bf16 rounded = nv_bf16_from_float(value);
        memcpy(data + i * sizeof rounded, &rounded, sizeof rounded);
    }
}

/* Results in raster order, on the host, the output in the dtype of the file; values[i] is NULL where it has none. */
static int bring_results(work *w, void *values[RESULTS]) {
    cli_qkv *c = &w->in;
    release_inputs(c);
    const double began = cli_seconds();
    int code = to_raster(c, c->q_order, &w->result[O]);
    if (!code) code = lse_to_raster(w);
    if (!code && c->do_entry) code = to_raster(c, c->q_order, &w->result[DQ]);
    if (!code && c->do_entry) code = to_raster(c, c->k_order, &w->result[DK]);
    if (!code && c->do_entry) code = to_raster(c, c->k_order, &w->result[DV]);
    if (code) return code;
    const nabla_status status = nabla_context_synchronize(c->ctx);
    c->reorder_s += cli_seconds() - began;
    if (status != NABLA_OK) return cli_qkv_fail(c, status);
    for (int i = 0; i < RESULTS; i++) {
        values[i] = host_values(w, i);
        if (w->result[i].data && !values[i]) return cli_qkv_no_memory(c);
    }
    /* bf16 tensors computed in fp32 */
    if (w->o_dtype != c->input) round_in_place(values[O], (size_t)(c->batch * c->q_tokens * c->heads * c->head_dim));
    return 0;
}

static nv_st_entry entry_of(const char *name, nv_st_dtype dtype, const void *data, int rank, int64_t a, int64_t b,
                            int64_t c, int64_t d) {
    nv_st_entry e = {.name = name, .dtype = dtype, .rank = rank, .shape = {a, b, c, d}, .data = data};
    e.bytes = nv_st_dtype_size(dtype);
    for (int i = 0; i < rank; i++)
        e.bytes *= (size_t)e.shape[i];
    return e;
}

static int make_lists(work *w) {
    cli_qkv *c = &w->in;
    const size_t rows = (size_t)(c->batch * c->heads * w->stats.q_blocks);
    w->counts = malloc(rows * sizeof *w->counts);
    w->indices = malloc(rows * (size_t)w->stats.k_blocks * sizeof *w->indices);
    if (!w->counts || !w->indices) return cli_qkv_no_memory(c);
    const nabla_status status = nabla_plan_export_lists(c->ctx, c->plan, w->counts, w->indices);
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

static int write_results(work *w, const settings *s) {
    cli_qkv *c = &w->in;
    int code = make_lists(w);
    void *values[RESULTS];
    if (!code) code = bring_results(w, values);
    if (code) return code;
    const nv_st_dtype o_dtype = c->input == NABLA_BF16 ? NV_ST_BF16 : NV_ST_F32;
    const int64_t b = c->batch, h = c->heads, d = c->head_dim, nq = w->stats.q_blocks, nk = w->stats.k_blocks;
    const nv_st_entry entries[] = {
        entry_of("o", o_dtype, values[O], 4, b, c->q_tokens, h, d),
        entry_of("lse", NV_ST_F32, values[LSE], 3, b, h, c->q_tokens, 0),
        entry_of("kv_num_blocks", NV_ST_I32, w->counts, 3, b, h, nq, 0),
        entry_of("kv_indices", NV_ST_I32, w->indices, 4, b, h, nq, nk),
        entry_of("dq", NV_ST_F32, values[DQ], 4, b, c->q_tokens, h, d),
        entry_of("dk", NV_ST_F32, values[DK], 4, b, c->k_tokens, h, d),
        entry_of("dv", NV_ST_F32, values[DV], 4, b, c->k_tokens, h, d),
    };
    char policy[96], grid[48], tile[48];
    const int32_t *g = s->qkv.grid, *t = s->qkv.tile;
    nabla_policy_format(&c->policy, policy, sizeof policy);
    snprintf(grid, sizeof grid, "%dx%dx%d", g[0], g[1], g[2]);
    snprintf(tile, sizeof tile, "%dx%dx%d", t[0], t[1], t[2]);
    const char *const metadata[] = {"nabla", nabla_version(), "policy", policy, "grid", grid, "tile", tile};
    nv_error err = {0};
    const nabla_status status = nv_st_write(s->output, entries, c->do_entry ? 7 : 4, metadata, 4, &err);
    return status == NABLA_OK ? 0 : cli_fail_status(c->verb, status, err.text);
}

static double sum(const double *values, int32_t count) {
    double total = 0;
    for (int32_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

/* Of all repeats together. */
static int report_profile(const work *w, const settings *s, double flop, json_t *figures) {
    const nabla_dtype dtype = w->in.compute;
    const double plan = sum(w->plan_s, s->repeat), forward = sum(w->forward_s, s->repeat),
                 backward = sum(w->backward_s, s->repeat) * (w->in.do_entry != NULL), all = cli_seconds() - w->began,
                 all_flop = flop * s->repeat;
    cli_profile p = {0};
    cli_profile_add(&p, "load", NULL, w->load_s, 0, dtype);
    cli_profile_add(&p, "attention", NULL, plan + forward + backward, all_flop * (backward > 0 ? 3.5 : 1), dtype);
    cli_profile_add(&p, "attention", "plan", plan, 0, dtype);
    cli_profile_add(&p, "attention", "forward", forward, all_flop, dtype);
    cli_profile_add(&p, "attention", "backward", backward, 2.5 * all_flop, dtype);
    cli_profile_add(&p, "files", NULL, w->write_s, 0, dtype);
    cli_profile_add(&p, "other", NULL, all - w->load_s - plan - forward - backward - w->write_s, 0, dtype);
    return cli_profile_report(w->in.verb, &s->common, &p, figures);
}

static int report(work *w, const settings *s) {
    const cli_qkv *c = &w->in;
    char policy[96];
    nabla_policy_format(&c->policy, policy, sizeof policy);
    const double plan_s = median(w->plan_s, s->repeat), forward_s = median(w->forward_s, s->repeat);
    const double backward_s = median(w->backward_s, s->repeat);
    /* Two products of D terms a visited pair, each a multiplication and an addition; five in the backward pass. */
    const double work_units = 4e-9 * w->stats.density * (double)c->batch * (double)c->heads * (double)c->q_tokens *
                              (double)c->k_tokens * (double)c->head_dim;
    const char *level = nabla_context_level(c->ctx), *dtype = c->compute == NABLA_BF16 ? "bf16" : "fp32";
    if (s->common.json) {
        json_t *figures =
            json_pack("{s:s, s:s, s:i, s:s, s:s, s:f, s:o, s:f, s:f, s:f, s:f}", "device",
                      c->common->device ? c->common->device : "cpu", "level", level, "threads",
                      nabla_context_threads(c->ctx), "dtype", dtype, "policy", policy, "density", w->stats.density,
                      "kept_mass", cli_json_real(w->stats.kept_mass), "reorder_s", c->reorder_s, "plan_s", plan_s,
                      "forward_s", forward_s, "forward_gflops", work_units / forward_s);
        if (c->do_entry) {
            json_object_set_new(figures, "backward_s", json_real(backward_s));
            json_object_set_new(figures, "backward_gflops", json_real(2.5 * work_units / backward_s));
        }
        const int code = figures ? report_profile(w, s, 1e9 * work_units, figures) : 0;
        if (!code) return cli_print_json(c->verb, figures);
        json_decref(figures);
        return code;
    }
    printf("policy    %s, %lld x %lld blocks\n", policy, (long long)w->stats.q_blocks, (long long)w->stats.k_blocks);
    printf("density   %.4f (sparsity %.1f %%)\n", w->stats.density, 100 * (1 - w->stats.density));
    if (isfinite(w->stats.kept_mass)) printf("kept mass %.4f\n", w->stats.kept_mass);
    printf("plan      %.3f ms\n", 1e3 * plan_s);
    printf("forward   %.3f ms, %.1f GFLOP/s (%s, %s, %d threads)\n", 1e3 * forward_s, work_units / forward_s, level,
           dtype, nabla_context_threads(c->ctx));
    if (c->do_entry) printf("backward  %.3f ms, %.1f GFLOP/s\n", 1e3 * backward_s, 2.5 * work_units / backward_s);
    fflush(stdout);
    return report_profile(w, s, 1e9 * work_units, NULL);
}

static int attend(work *w, const settings *s) {
    w->began = cli_seconds();
    int code = cli_qkv_open("attend", &s->common, &s->qkv, 1, &w->in);
    if (code) return code;
    w->o_dtype = w->in.compute == NABLA_BF16 && w->in.input == NABLA_BF16 ? NABLA_BF16 : NABLA_FP32;
    code = check_memory(w, s->output != NULL);
    if (!code && w->in.policy.int8 && w->in.do_entry)
        code = cli_fail(w->in.verb,
                        "attention in int8 has no backward pass, and the file holds do: leave _int8 or do out");
    if (!code) code = load(w);
    w->load_s = cli_seconds() - w->began;
    if (!code) code = allocate(w);
    if (!code) code = compute(w, s);
    const double computed = cli_seconds();
    if (!code && s->output) code = write_results(w, s);
    w->write_s = cli_seconds() - computed;
    return code ? code : report(w, s);
}

static const cli_option options[] = {
    CLI_QKV_ROWS,
    CLI_POLICY("dense, nabla-THR, sta-T-H-W or a union []"),
    CLI_FLAG("o,output", TEXT, "FILE", output, "results go there"),
    CLI_RANGE("repeat", INT32, repeat, 1, 1000000, "runs, whose median times are reported []"),
    CLI_DTYPE("to compute in [that of the file]"),
    CLI_THREADS,
    CLI_LEVEL,
    CLI_DEVICE,
    CLI_PROFILE,
    CLI_JSON,
    CLI_QUIET,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.common = {.policy = "nabla-0.7"}, .qkv = {.tile = {1, 8, 8}}, .repeat = 1};
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    if (s.output && (code = cli_check_output("attend", s.output)) != 0) return code;
    work w = {0};
    code = attend(&w, &s);
    void *const owned[] = {w.counts, w.indices, w.plan_s, w.forward_s, w.backward_s};
    for (int i = 0; i < RESULTS; i++) {
        cli_qkv_free(&w.in, &w.result[i]);
        free(w.home[i]);
    }
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    cli_qkv_close(&w.in);
    return code;
}

const cli_verb cli_verb_attend = {
    .name = "attend",
    .arguments = "IN.safetensors --grid FxHxW",
    .summary = "sparse attention on tensors from a file",
    .about = "Sparse attention on the tensors q, k, v of a file, fp32 or bf16 [B, S, H, D] in\n"
             "raster order. If it also holds `do`, the gradient of the output, the backward\n"
             "pass follows. -o gets o, lse, kv_num_blocks, kv_indices (and dq, dk, dv).",
    .example = "example: nabla attend qkv.safetensors --grid 4x32x32 -o out.safetensors",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* nabla mask: what a policy keeps of the tensors in a file. */
#include <math.h>
#include <stdlib.h>

#include "cli/progress.h"
#include "cli/qkv.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "video/mask.h"

typedef struct settings {
    cli_common common;
    cli_qkv_settings qkv;
    const char *output;
    int32_t sample;
} settings;

static json_t *densities_json(const cli_qkv *c, const double *density) {
    json_t *batches = json_array();
    for (int64_t b = 0; b < c->batch; b++) {
        json_t *heads = json_array();
        for (int64_t h = 0; h < c->heads; h++)
            json_array_append_new(heads, json_real(density[b * c->heads + h]));
        json_array_append_new(batches, heads);
    }
    return batches;
}

static int report(const cli_qkv *c, int json, const nabla_plan_stats *stats, const double *density, double plan_s) {
    char policy[96];
    nabla_policy_format(&c->policy, policy, sizeof policy);
    if (json)
        return cli_print_json("mask",
                              json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:o, s:f, s:o}", "policy", policy, "q_blocks",
                                        (json_int_t)stats->q_blocks, "k_blocks", (json_int_t)stats->k_blocks,
                                        "kept_blocks", (json_int_t)stats->kept_blocks, "density", stats->density,
                                        "sparsity", 1 - stats->density, "kept_mass", cli_json_real(stats->kept_mass),
                                        "plan_s", plan_s, "densities", densities_json(c, density)));
    printf("policy    %s, %lld x %lld blocks\n", policy, (long long)stats->q_blocks, (long long)stats->k_blocks);
    printf("density   %.4f (sparsity %.1f %%)\n", stats->density, 100 * (1 - stats->density));
    if (isfinite(stats->kept_mass)) printf("kept mass %.4f\n", stats->kept_mass);
    printf("plan      %.3f ms\n", 1e3 * plan_s);
    printf("%s  head  density\n", c->batch > 1 ? "batch" : "     ");
    for (int64_t i = 0; i < c->batch * c->heads; i++) {
        if (c->batch > 1) printf("%5lld", (long long)(i / c->heads));
        printf("%*lld  %.4f\n", c->batch > 1 ? 6 : 11, (long long)(i % c->heads), density[i]);
    }
    return CLI_DONE;
}

static int make_plan(cli_qkv *c, float scale, double *seconds) {
    size_t plan = 0;
    const double values =
        (double)c->batch * (double)(c->q_tokens + c->k_tokens) * (double)c->heads * (double)c->head_dim;
    c->desc.backward = 0;
    const nabla_status status = nabla_plan_memory(c->ctx, &c->desc, &plan);
    if (status != NABLA_OK) return cli_qkv_fail(c, status);
    int code = cli_qkv_check_memory(c, (double)plan + values * (double)nabla_dtype_size(c->compute));
    if (!code) code = cli_qkv_load(c, c->q_entry, c->q_order, c->compute, &c->q);
    if (!code) code = cli_qkv_load(c, c->k_entry, c->k_order, c->compute, &c->k);
    const double began = cli_seconds();
    if (!code) code = cli_qkv_plan(c, scale);
    *seconds = cli_seconds() - began;
    return code;
}

/* Rows of tiles in time; 0 without a grid. */
static int64_t tile_frames(const nabla_order *order) {
    const nabla_grid *grid = order ? nabla_order_grid(order) : NULL;
    return grid ? (grid->frames + grid->tile_frames - 1) / grid->tile_frames : 0;
}

static int draw(const cli_qkv *c, const settings *s) {
    nv_error err = {0};
    if (s->sample >= c->batch)
        return cli_misuse("mask", "--sample %d is not in the file: give one from 0 to %lld", s->sample,
                          (long long)c->batch - 1);
    const nv_mask_view view = {.batch = c->batch,
                               .heads = c->heads,
                               .sample = s->sample,
                               .q_frames = tile_frames(c->q_order),
                               .k_frames = tile_frames(c->k_order)};
    const nabla_status status = nv_mask_write(c->ctx, c->plan, &view, s->output, &err);
    return status == NABLA_OK ? 0 : cli_fail_status("mask", status, err.text);
}

static int mask(cli_qkv *c, const settings *s) {
    nabla_plan_stats stats = {.size = sizeof stats};
    double seconds = 0;
    int code = cli_qkv_open("mask", &s->common, &s->qkv, 0, c);
    if (!code) code = make_plan(c, s->qkv.scale, &seconds);
    if (!code && cli_stop_asked()) code = cli_interrupted("mask");
    if (!code && s->output) code = draw(c, s);
    if (code) return code;
    double *density = malloc((size_t)(c->batch * c->heads) * sizeof *density);
    if (!density) return cli_qkv_no_memory(c);
    nabla_status status = nabla_plan_get_stats(c->ctx, c->plan, &stats);
    if (status == NABLA_OK) status = nabla_plan_densities(c->ctx, c->plan, density);
    code = status == NABLA_OK ? report(c, s->common.json, &stats, density, seconds) : cli_qkv_fail(c, status);
    free(density);
    return code;
}

static const cli_option options[] = {
    CLI_QKV_ROWS,
    CLI_POLICY("dense, nabla-THR, sta-T-H-W or a union []"),
    CLI_FLAG("o,output", TEXT, "FILE.png", output, "draws it: a square a head, bright where kept"),
    CLI_RANGE("sample", INT32, sample, 0, 1 << 30, "which of the batch is drawn []"),
    CLI_DTYPE("to compute in [that of the file]"),
    CLI_THREADS,
    CLI_LEVEL,
    CLI_DEVICE,
    CLI_JSON,
    CLI_QUIET,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.common = {.policy = "nabla-0.7"}, .qkv = {.tile = {1, 8, 8}}};
    cli_qkv c = {0};
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    if (s.output && (code = cli_check_output("mask", s.output)) != 0) return code;
    code = mask(&c, &s);
    cli_qkv_close(&c);
    return code;
}

const cli_verb cli_verb_mask = {
    .name = "mask",
    .arguments = "IN.safetensors --grid FxHxW",
    .summary = "what a policy keeps of tensors from a file",
    .about = "What a policy keeps of the tensors q and k of a file, fp32 or bf16 [B, S, H, D]\n"
             "in raster order: density of every head, probability mass kept.",
    .example = "example: nabla mask qkv.safetensors --grid 4x32x32 -o mask.png",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* nabla bench: what attention and models cost on this machine, with ratios measured in one run, and its peaks. */
#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>

#include "cli/machine.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "video/limits.h"
#include "weights/file.h"

typedef struct settings {
    cli_common common;
    cli_bench_settings to;
} settings;

int cli_bench_open(const char *path, cli_bench_csv *csv) {
    *csv = (cli_bench_csv){0};
    if (!path) return 0;
    csv->file = open_memstream(&csv->text, &csv->size);
    return csv->file ? 0 : cli_fail("bench", "no memory for the table of %s", path);
}

int cli_bench_dtypes(const char *text, cli_list *dtypes) {
    int code = cli_list_read("bench", "dtypes", text, dtypes);
    for (int32_t i = 0; !code && i < dtypes->count; i++)
        if (strcmp(dtypes->item[i], "fp32") != 0 && strcmp(dtypes->item[i], "bf16") != 0)
            code = cli_misuse("bench", "--dtypes takes fp32 and bf16, not '%s'", dtypes->item[i]);
    return code;
}

int cli_bench_check_policies(nabla_context *ctx, const cli_list *policies) {
    int code = 0;
    nabla_policy policy;
    for (int32_t i = 0; !code && i < policies->count; i++)
        code = cli_policy("bench", ctx, policies->item[i], &policy);
    return code;
}

int cli_bench_close(const char *path, cli_bench_csv *csv, int code) {
    nv_error err = {0};
    if (!csv->file) return code;
    const int broken = ferror(csv->file) | fclose(csv->file);
    if (!code && broken) code = cli_fail("bench", "no memory for the table of %s", path);
    if (!code) {
        const nabla_status status = nv_file_write(path, csv->text, csv->size, &err);
        if (status != NABLA_OK) code = cli_fail_status("bench", status, err.text);
    }
    free(csv->text);
    return code;
}

static const cli_option options[] = {
    CLI_FLAG("o,output", TEXT, "FILE.csv", to.output, "every figure as CSV"),
    CLI_FLAG("policies", TEXT, "P1,P2,...", to.policies, "the first is what the others are compared with"),
    CLI_FLAG("grid", TEXT, "FxHxW,...", to.grids, "tokens, of bench attention and dit [4x32x32; 21x30x52]"),
    CLI_RANGE("heads", INT32, to.heads, 1, 1024, "[]"),
    CLI_RANGE("head-dim", INT32, to.head_dim, 16, 256, "a multiple of 8 []"),
    CLI_RANGE("batch", INT32, to.batch, 1, 1024, "[]"),
    CLI_FLAG("dtypes", TEXT, "fp32,bf16", to.dtypes, "to compute in [both; of a model bf16]"),
    CLI_FLAG("threads", TEXT, "N1,N2,...", to.threads, "processor threads [all]"),
    CLI_FLAG("size", TEXT, "demo|1.3B|14B", to.size, "of bench dit, whose weights are random []"),
    CLI_RANGE("density", REAL, to.density, 0, 1, "of bench dit: random lists that keep so much, first"),
    CLI_FLAG("backward", SWITCH, NULL, to.backward, "the backward pass too; of bench dit a training step"),
    CLI_RANGE("repeat", INT32, to.repeat, 1, 100000, "runs, whose least times count []"),
    CLI_FLAG("model", TEXT, "DIR", to.model, "of bench model [the bundled demo]"),
    CLI_RANGE("steps", INT32, to.steps, 1, NV_MOST_SAMPLE_STEPS, "of bench model [the model's own]"),
    CLI_LEVEL,
    CLI_DEVICE,
    CLI_JSON,
    CLI_QUIET,
    CLI_MORE,
    CLI_FLAG("any-order", SWITCH, NULL, to.any_order, "its sums in any order: not deterministic"),
    CLI_RANGE("layers", INT32, to.layers, 1, 100, "of bench dit: so few of them [the size's own]"),
    CLI_FLAG("offload", SWITCH, NULL, to.offload, "of bench dit: blocks' weights in the host's memory [if they must]"),
    CLI_FLAG("activation-checkpointing", SWITCH, NULL, to.recompute,
             "of bench dit --backward: keep a block's input alone"),
    CLI_FLAG("guided", SWITCH, NULL, to.guided, "of bench dit: a step of two passes, as with guidance"),
    CLI_FLAG("replay", SWITCH, NULL, to.replay, "of bench dit on a GPU: passes as one recorded graph"),
    CLI_FLAG("seed", SEED, NULL, to.seed, "of the tensors or the noise [0]"),
    CLI_FLAG("profile", SWITCH, NULL, common.profile, "of bench dit: where each pass spends its time"),
};

/* Flags of another benchmark would be ignored: their figures would not be what was asked for. */
static int check_flags(const cli_verb *verb, const cli_common *common, const char *what) {
    static const struct {
        const char *flag, *of[3]; /* benchmarks that have it */
    } rows[] = {{"grid", {"attention", "dit"}},
                {"heads", {"attention"}},
                {"head-dim", {"attention"}},
                {"batch", {"attention", "dit"}},
                {"any-order", {"attention"}},
                {"model", {"model"}},
                {"backward", {"attention", "dit"}},
                {"steps", {"model"}},
                {"size", {"dit"}},
                {"density", {"dit"}},
                {"guided", {"dit"}},
                {"profile", {"dit"}},
                {"layers", {"dit"}},
                {"replay", {"dit"}},
                {"offload", {"dit"}},
                {"activation-checkpointing", {"dit"}},
                {"policies", {"attention", "model", "dit"}},
                {"dtypes", {"attention", "model", "dit"}},
                {"repeat", {"attention", "model", "dit"}},
                {"seed", {"attention", "model", "dit"}},
                {"level", {"attention", "model", "dit"}},
                {"device", {"attention", "model", "dit"}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int has = 0;
        for (int j = 0; j < 3 && rows[i].of[j]; j++)
            has |= strcmp(rows[i].of[j], what) == 0;
        if (!has && cli_given(verb, common, rows[i].flag))
            return cli_misuse("bench", "--%s is not of bench %s: leave it out", rows[i].flag, what);
    }
    return 0;
}

static const struct {
    const char *name, *dtypes, *policies, *grids;
    int (*run)(const cli_common *common, const cli_bench_settings *s);
} benchmarks[] = {
    {"attention", "fp32,bf16", "dense,nabla-0.9,nabla-0.7,nabla-0.4,sta-1-3-3", "4x32x32", cli_bench_attention},
    {"model", "bf16", "dense,nabla-0.9,nabla-0.7,nabla-0.4,sta-1-3-3", NULL, cli_bench_model},
    {"dit", "bf16", "dense,nabla-0.4", "21x30x52", cli_bench_dit},
    {"roofline", NULL, NULL, NULL, cli_bench_roofline},
};
enum { BENCHMARKS = sizeof benchmarks / sizeof *benchmarks };

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.to = {.size = "1.3B", .heads = 2, .head_dim = 128, .batch = 1, .repeat = 3}};
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    const char *what = s.common.argument_count ? s.common.arguments[0] : "attention";
    int i = 0;
    while (i < BENCHMARKS && strcmp(benchmarks[i].name, what) != 0)
        i++;
    if (i == BENCHMARKS)
        return cli_misuse("bench", "nothing called '%s' to measure: give attention, model, dit or roofline", what);
    code = check_flags(verb, &s.common, what);
    if (code) return code;
    if (s.to.density == 0 && cli_given(verb, &s.common, "density"))
        return cli_misuse("bench", "--density 0 keeps nothing to measure: give a share above 0, to 1");
    if (s.to.recompute && !s.to.backward)
        return cli_misuse("bench", "--activation-checkpointing is of training steps: give --backward too");
    if (s.to.offload && s.to.backward)
        return cli_misuse("bench", "--offload is of weights that do not change: leave out it or --backward");
    if (s.to.output && cli_check_output("bench", s.to.output)) return CLI_FAILED;
    if (!s.to.dtypes) s.to.dtypes = benchmarks[i].dtypes;
    /* random lists alone, where no policy was asked for */
    if (!s.to.policies && s.to.density == 0) s.to.policies = benchmarks[i].policies;
    if (!s.to.grids) s.to.grids = benchmarks[i].grids;
    return benchmarks[i].run(&s.common, &s.to);
}

const cli_verb cli_verb_bench = {
    .name = "bench",
    .arguments = "[attention | model | dit | roofline]",
    .summary = "what attention and models cost on this machine",
    .about = "Times attention on made-up tensors, a whole model, or a transformer with random\n"
             "weights, policy by policy in one run, so that ratios hold; or what the processor\n"
             "can do at most.",
    .example = "example: nabla bench --grid 4x32x32 --threads 1,2 --backward -o bench.csv",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .run = run,
};

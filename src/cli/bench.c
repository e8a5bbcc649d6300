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
    CLI_FLAG("grid", TEXT, "FxHxW,...", to.grids, "of bench attention, tokens []"),
    CLI_RANGE("heads", INT32, to.heads, 1, 1024, "[]"),
    CLI_RANGE("head-dim", INT32, to.head_dim, 16, 256, "a multiple of 8 []"),
    CLI_RANGE("batch", INT32, to.batch, 1, 1024, "[]"),
    CLI_FLAG("dtypes", TEXT, "fp32,bf16", to.dtypes, "to compute in [both; of a model bf16]"),
    CLI_FLAG("threads", TEXT, "N1,N2,...", to.threads, "processor threads [all]"),
    CLI_FLAG("backward", SWITCH, NULL, to.backward, "the backward pass too"),
    CLI_FLAG("any-order", SWITCH, NULL, to.any_order, "its sums in any order: not deterministic"),
    CLI_RANGE("repeat", INT32, to.repeat, 1, 100000, "runs, whose least times count []"),
    CLI_FLAG("model", TEXT, "DIR", to.model, "of bench model [the bundled demo]"),
    CLI_RANGE("steps", INT32, to.steps, 1, NV_MOST_SAMPLE_STEPS, "of bench model [the model's own]"),
    CLI_FLAG("seed", SEED, NULL, to.seed, "of the tensors or the noise [0]"),
    CLI_LEVEL,
    CLI_DEVICE,
    CLI_JSON,
    CLI_QUIET,
};

typedef struct benchmark {
    const char *name;
    int (*run)(const cli_common *common, const cli_bench_settings *s);
    const char *const *others; /* flags that are not of it, NULL at the end */
} benchmark;

static const benchmark benchmarks[] = {
    {"attention", cli_bench_attention, (const char *const[]){"model", "steps", NULL}},
    {"model", cli_bench_model,
     (const char *const[]){"grid", "heads", "head-dim", "batch", "backward", "any-order", NULL}},
    {"roofline", cli_bench_roofline,
     (const char *const[]){"policies", "grid", "heads", "head-dim", "batch", "dtypes", "backward", "any-order",
                           "repeat", "model", "steps", "seed", "level", "device", NULL}},
};

static const benchmark *find(const char *name) {
    for (int32_t i = 0; i < CLI_COUNT(benchmarks); i++)
        if (strcmp(benchmarks[i].name, name) == 0) return &benchmarks[i];
    return NULL;
}

/* Flags of another benchmark would be ignored: the figures would not be what was asked for. */
static int check_flags(const cli_verb *verb, const cli_common *common, const benchmark *what) {
    for (const char *const *name = what->others; *name; name++)
        if (cli_given(verb, common, *name))
            return cli_misuse("bench", "--%s is not of bench %s: leave it out", *name, what->name);
    return 0;
}

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.to = {.grids = "4x32x32",
                         .policies = "dense,nabla-0.9,nabla-0.7,nabla-0.4,sta-1-3-3",
                         .heads = 2,
                         .head_dim = 128,
                         .batch = 1,
                         .repeat = 3}};
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    const char *name = s.common.argument_count ? s.common.arguments[0] : "attention";
    const benchmark *what = find(name);
    if (!what) return cli_misuse("bench", "nothing called '%s' to measure: give attention, model or roofline", name);
    code = check_flags(verb, &s.common, what);
    if (code) return code;
    if (s.to.output && cli_check_output("bench", s.to.output)) return CLI_FAILED;
    if (!s.to.dtypes) s.to.dtypes = strcmp(what->name, "attention") == 0 ? "fp32,bf16" : "bf16";
    return what->run(&s.common, &s.to);
}

const cli_verb cli_verb_bench = {
    .name = "bench",
    .arguments = "[attention | model | roofline]",
    .summary = "what attention and models cost on this machine",
    .about = "Times attention on made-up tensors, or a whole model, policy by policy in one\n"
             "run, so that ratios hold; or what the processor can do at most.",
    .example = "example: nabla bench --grid 4x32x32 --threads 1,2 --backward -o bench.csv",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .run = run,
};

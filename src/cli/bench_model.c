/* SPDX-License-Identifier: Apache-2.0 */
/* A whole model, policy by policy: one clip a run, nothing written. */
#include <math.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/engine.h"
#include "cli/machine.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "nabla/video.h"

static const char *const prompt = "a red circle moving right";

/* Keeps the result of the faster run in best. */
static int time_clip(const cli_common *common, const nabla_generate_options *to, nabla_generate_result *best) {
    cli_progress progress = cli_progress_make(common->quiet);
    nabla_generate_result result = {.size = sizeof result};
    nabla_video_machine machine;
    nabla_video_error err = {0};
    int code = cli_engine_machine("bench", common, &progress, &machine);
    if (code) return code;
    const nabla_status status = nabla_generate(to, &machine, &result, &err);
    cli_progress_clear(&progress);
    if (status != NABLA_OK) return cli_fail_status("bench", status, err.text);
    if (best->sample_s == 0 || result.sample_s < best->sample_s) *best = result;
    return 0;
}

/* What runs: every policy in every dtype, policies of a dtype together. */
typedef struct plan {
    cli_list policies, dtypes;
    nabla_generate_result *results; /* [dtypes][policies], of the faster run */
} plan;

static void report(const plan *p, FILE *csv, json_t *json) {
    if (!json)
        printf("%-26s %5s %9s %9s %8s %10s %9s %7s\n", "policy", "dtype", "sparsity", "sample s", "plan s",
               "attention s", "products s", "ratio");
    if (csv) fprintf(csv, "policy,dtype,sparsity,sample_s,plan_s,attention_s,products_s,other_s,decode_s,ratio\n");
    for (int32_t i = 0; i < p->dtypes.count * p->policies.count; i++) {
        const nabla_generate_result *r = &p->results[i], *first = r - i % p->policies.count;
        const char *policy = p->policies.item[i % p->policies.count], *dtype = p->dtypes.item[i / p->policies.count];
        const double ratio = first->sample_s / r->sample_s;
        if (json)
            json_array_append_new(json,
                                  json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "policy", policy,
                                            "dtype", dtype, "sparsity", r->sparsity, "sample_s", r->sample_s, "plan_s",
                                            r->plan_s, "attention_s", r->attention_s, "products_s", r->products_s,
                                            "other_s", r->other_s, "decode_s", r->decode_s, "ratio", ratio));
        else
            printf("%-26s %5s %7.1f %% %9.3f %8.3f %11.3f %10.3f %7.2f\n", policy, dtype, fmax(0, 100 * r->sparsity),
                   r->sample_s, r->plan_s, r->attention_s, r->products_s, ratio);
        if (csv)
            fprintf(csv, "%s,%s,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%.4f\n", policy, dtype, r->sparsity, r->sample_s,
                    r->plan_s, r->attention_s, r->products_s, r->other_s, r->decode_s, ratio);
    }
}

static int check_policies(cli_common common, const cli_list *policies) {
    int code;
    common.device = NULL; /* to read them the processor will do */
    nabla_context *ctx = cli_context("bench", &common, &code);
    if (!code) code = cli_bench_check_policies(ctx, policies);
    nabla_context_destroy(ctx);
    return code;
}

/* Rounds go through all before any runs again, so that a busy machine slows all of them alike. */
static int time_all(cli_common common, nabla_generate_options *to, int32_t rounds, const plan *p) {
    int code = 0;
    const int32_t count = p->dtypes.count * p->policies.count;
    for (int32_t i = 0; !code && i < rounds * count; i++) {
        common.dtype = p->dtypes.item[i % count / p->policies.count];
        to->policy = p->policies.item[i % p->policies.count];
        code = time_clip(&common, to, &p->results[i % count]);
    }
    return code;
}

static int measure(const cli_common *common, const cli_bench_settings *s, nabla_generate_options *to, const plan *p) {
    cli_bench_csv csv = {0};
    int code = cli_bench_open(s->output, &csv);
    if (!code) code = time_all(*common, to, s->repeat, p);
    json_t *json = common->json ? json_array() : NULL;
    if (!code) report(p, csv.file, json);
    code = cli_bench_close(s->output, &csv, code);
    if (!code && json) return cli_print_json("bench", json);
    json_decref(json);
    return code;
}

int cli_bench_model(const cli_common *common, const cli_bench_settings *s) {
    plan p = {0};
    char model[4096];
    int64_t threads = 0;
    nabla_generate_options to = nabla_generate_options_default();
    cli_common machine = *common;
    int code = cli_engine_model("bench", s->model, model, sizeof model);
    if (!code) code = cli_list_read("bench", "policies", s->policies, &p.policies);
    if (!code) code = cli_bench_dtypes(s->dtypes, &p.dtypes);
    if (!code && s->threads && !cli_read_int(s->threads, 1, 4096, &threads))
        code = cli_misuse("bench", "--threads takes one whole number from 1 to 4096 for a model, not '%s'", s->threads);
    machine.threads = (int32_t)threads;
    if (!code) code = check_policies(machine, &p.policies);
    if (code) return code;
    p.results = calloc((size_t)(p.dtypes.count * p.policies.count), sizeof *p.results);
    if (!p.results) return cli_fail("bench", "no memory for the results: give fewer --policies");
    to.model = model;
    to.prompt = prompt;
    to.steps = s->steps;
    to.seed = s->seed.value;
    code = measure(&machine, s, &to, &p);
    free(p.results);
    return code;
}

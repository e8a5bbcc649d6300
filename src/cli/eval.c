/* SPDX-License-Identifier: Apache-2.0 */
/* nabla eval: how well a model follows its prompts, per policy, on the same prompts and noise. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/engine.h"
#include "cli/list.h"
#include "cli/machine.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "nabla/video.h"
#include "video/limits.h"
#include "weights/config.h"

typedef struct settings {
    cli_common common;
    nabla_eval_options to;
    const char *policies;
    int32_t size[2];
    cli_seed seed;
} settings;

enum { TRAITS = 3 };
static const char *const trait_names[TRAITS] = {"colour", "shape", "motion"};

/* What policy b changes against a in a trait, in shares of the prompts. */
static nabla_eval_difference compare(const nabla_eval_result *a, const nabla_eval_result *b, int trait) {
    return nabla_eval_compare(a->right, b->right, a->prompts, (uint8_t)(1u << trait));
}

static int report_json(const cli_common *common, const cli_list *policies, const nabla_eval_result *results,
                       const nabla_video_profile *profiles) {
    json_t *all = json_array();
    cli_profile p = {0};
    int code = 0;
    for (int32_t i = 0; i < policies->count; i++) {
        const nabla_eval_result *r = &results[i];
        json_t *one =
            json_pack("{s:s, s:i, s:s, s:i, s:f, s:f, s:f, s:o, s:f}", "policy", policies->item[i], "prompts",
                      r->prompts, "solver", r->solver, "steps", r->steps, "colour", r->colour, "shape", r->shape,
                      "motion", r->motion, "sparsity", cli_json_real(r->sparsity), "seconds", r->seconds);
        json_t *against = json_pack("{s:s}", "policy", policies->item[0]);
        for (int trait = 0; trait < TRAITS && i > 0; trait++) {
            const nabla_eval_difference d = compare(&results[0], r, trait);
            json_object_set_new(against, trait_names[trait],
                                json_pack("{s:f, s:f, s:f}", "difference", d.difference, "low", d.low, "high", d.high));
        }
        if (i > 0) json_object_set(one, "against", against);
        json_decref(against);
        if (!code) code = cli_profile_engine("eval", common, &p, &profiles[i], one);
        json_array_append_new(all, one);
    }
    if (!code) return cli_print_json("eval", all);
    json_decref(all);
    return code;
}

static int report(const cli_common *common, const cli_list *policies, const nabla_eval_result *results,
                  const nabla_video_profile *profiles) {
    cli_profile p = {0};
    int code = 0;
    printf("%-26s %8s %8s %8s %9s %7s\n", "policy", "colour", "shape", "motion", "sparsity", "s/clip");
    for (int32_t i = 0; i < policies->count; i++) {
        const nabla_eval_result *r = &results[i];
        printf("%-26s %6.1f %% %6.1f %% %6.1f %% %7.1f %% %7.2f\n", policies->item[i], 100 * r->colour, 100 * r->shape,
               100 * r->motion, fmax(0, 100 * r->sparsity), r->seconds);
    }
    printf("%d steps of %s\n", results[0].steps, results[0].solver);
    if (policies->count > 1)
        printf("\nagainst %s, on the same %d prompts and noise, in points with 95 %% confidence intervals:\n",
               policies->item[0], results[0].prompts);
    for (int32_t i = 1; i < policies->count; i++) {
        printf("%-26s", policies->item[i]);
        for (int trait = 0; trait < TRAITS; trait++) {
            const nabla_eval_difference d = compare(&results[0], &results[i], trait);
            printf("  %s %+.1f [%+.1f, %+.1f]", trait_names[trait], 100 * d.difference, 100 * d.low, 100 * d.high);
        }
        printf("\n");
    }
    fflush(stdout);
    for (int32_t i = 0; i < policies->count && common->profile && !code; i++) {
        cli_note("policy %s", policies->item[i]);
        code = cli_profile_engine("eval", common, &p, &profiles[i], NULL);
    }
    return code;
}

/* The policies asked for, each checked; without the flag dense and the model's own. */
static int choose_policies(const settings *s, const char *model, cli_list *list) {
    char path[4200], text[128];
    nv_model_index index = {0};
    nv_error err = {0};
    int code;
    const char *wanted = s->policies;
    if (!wanted) {
        snprintf(path, sizeof path, "%s/model_index.json", model);
        if (nv_config_read_index(path, &index, &err) != NABLA_OK) return cli_fail("eval", "%s", err.text);
        const int own = index.policy[0] && strcmp(index.policy, "dense") != 0;
        snprintf(text, sizeof text, own ? "dense,%s" : "dense", index.policy);
        wanted = text;
    }
    code = cli_list_read("eval", "policies", wanted, list);
    if (code) return code;
    cli_common common = s->common;
    common.device = NULL; /* to read them the processor will do */
    nabla_context *ctx = cli_context("eval", &common, &code);
    for (int32_t i = 0; !code && i < list->count; i++) {
        nabla_policy policy;
        code = cli_policy("eval", ctx, list->item[i], &policy);
    }
    nabla_context_destroy(ctx);
    return code;
}

static int evaluate(settings *s, const cli_list *policies, nabla_eval_result *results, nabla_video_profile *profiles) {
    cli_progress progress = cli_progress_make(s->common.quiet);
    nabla_video_machine machine;
    nabla_video_error err = {0};
    int code = cli_engine_machine("eval", &s->common, &progress, &machine);
    if (code) return code;
    for (int32_t i = 0; i < policies->count; i++) {
        results[i].size = sizeof results[i];
        profiles[i].size = sizeof profiles[i];
        if (s->common.profile) machine.profile = &profiles[i];
        results[i].right = calloc((size_t)s->to.prompts, 1);
        if (!results[i].right) return cli_fail("eval", "out of memory: give fewer --prompts");
        s->to.policy = policies->item[i];
        if (!s->common.quiet) cli_note("policy %s", s->to.policy);
        const nabla_status status = nabla_evaluate(&s->to, &machine, &results[i], &err);
        cli_progress_clear(&progress);
        if (status != NABLA_OK) return cli_fail_status("eval", status, err.text);
    }
    return s->common.json ? report_json(&s->common, policies, results, profiles)
                          : report(&s->common, policies, results, profiles);
}

static const cli_option options[] = {
    CLI_FLAG("model", TEXT, "DIR", to.model, "a model's folder [the bundled demo]"),
    CLI_FLAG("policies", TEXT, "P1,P2,...", policies, "compared with the first [dense, the model's own]"),
    CLI_RANGE("prompts", INT32, to.prompts, 1, NV_MOST_SAMPLES, "held-out captions []"),
    CLI_RANGE("steps", INT32, to.steps, 1, NV_MOST_SAMPLE_STEPS, "sampling steps [the model's own]"),
    CLI_FLAG("solver", CHOICE, "unipc|dpm++|euler", to.solver, "[the model's own]"),
    CLI_RANGE("guidance", REAL, to.guidance, 0, NV_MOST_GUIDANCE, "[the model's own]"),
    CLI_RANGE("shift", REAL, to.shift, NV_LEAST_SHIFT, NV_MOST_SHIFT, "[the model's own]"),
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "pixels [the model's own]"),
    CLI_RANGE("frames", INT32, to.frames, 1, NV_MOST_FRAMES, "[the model's own]"),
    CLI_FLAG("seed", SEED, NULL, seed, "prompt i takes seed + i [0]"),
    CLI_THREADS,
    CLI_DTYPE("to compute in [bf16]"),
    CLI_JSON,
    CLI_QUIET,
    CLI_PROFILE,
    CLI_LEVEL,
    CLI_DEVICE,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    char model[4096];
    settings s = {.to = nabla_eval_options_default()};
    nabla_eval_result results[CLI_LIST_MOST] = {0};
    nabla_video_profile profiles[CLI_LIST_MOST] = {{0}};
    cli_list policies;
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    code = cli_engine_model("eval", s.to.model, model, sizeof model);
    if (!code) code = choose_policies(&s, model, &policies);
    if (code) return code;
    s.to.model = model;
    s.to.width = s.size[0];
    s.to.height = s.size[1];
    if (s.seed.given) s.to.seed = s.seed.value;
    code = evaluate(&s, &policies, results, profiles);
    for (int32_t i = 0; i < CLI_LIST_MOST; i++)
        free(results[i].right);
    return code;
}

const cli_verb cli_verb_eval = {
    .name = "eval",
    .arguments = "",
    .summary = "how well a model follows its prompts, per policy",
    .about = "Draws held-out captions, makes their clips, reads them back and counts what came\n"
             "out as asked, on the same captions and noise for every policy.",
    .example = "example: nabla eval --policies dense,nabla-0.7 --prompts 50",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 0,
    .run = run,
};

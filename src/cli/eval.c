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
    const char *policies, *reference;
    int32_t size[2];
    cli_seed seed;
} settings;

enum { CLIP_TRAITS = 3, TRAITS = 5 }; /* a clip has one object: no count, no relation */
static const char *const trait_names[TRAITS] = {"colour", "shape", "motion", "count", "relation"};
static const uint8_t relation_asked = 32;

static int traits_of(const nabla_eval_result *r) {
    return strcmp(r->data, "scenes") == 0 ? TRAITS : CLIP_TRAITS;
}

static double share_of(const nabla_eval_result *r, int trait) {
    const double shares[TRAITS] = {r->colour, r->shape, r->motion, r->count, r->relation};
    return shares[trait];
}

/* What policy b changes against a in a trait, in shares of the prompts that ask for it. */
static nabla_eval_difference compare(const nabla_eval_result *a, const nabla_eval_result *b, int trait) {
    nabla_eval_difference d = {NAN, NAN, NAN};
    uint8_t *asked[2] = {malloc((size_t)a->prompts + 1), malloc((size_t)a->prompts + 1)};
    int32_t n = 0;
    for (int32_t i = 0; asked[0] && asked[1] && i < a->prompts; i++) {
        if (trait == TRAITS - 1 && !(a->right[i] & relation_asked)) continue;
        asked[0][n] = a->right[i];
        asked[1][n++] = b->right[i];
    }
    if (n > 0) d = nabla_eval_compare(asked[0], asked[1], n, (uint8_t)(1u << trait));
    free(asked[0]);
    free(asked[1]);
    return d;
}

static json_t *differences(const char *policy, const nabla_eval_result *first, const nabla_eval_result *r) {
    json_t *against = json_pack("{s:s}", "policy", policy);
    for (int trait = 0; trait < traits_of(r); trait++) {
        const nabla_eval_difference d = compare(first, r, trait);
        json_object_set_new(against, trait_names[trait],
                            json_pack("{s:o, s:o, s:o}", "difference", cli_json_real(d.difference), "low",
                                      cli_json_real(d.low), "high", cli_json_real(d.high)));
    }
    return against;
}

static int report_json(const settings *s, const cli_list *policies, const nabla_eval_result *results,
                       const nabla_video_profile *profiles) {
    json_t *all = json_array();
    cli_profile p = {0};
    int code = 0;
    for (int32_t i = 0; i < policies->count; i++) {
        const nabla_eval_result *r = &results[i];
        json_t *one = json_pack("{s:s, s:s, s:i, s:s, s:i, s:o, s:f}", "policy", policies->item[i], "data", r->data,
                                "prompts", r->prompts, "solver", r->solver, "steps", r->steps, "sparsity",
                                cli_json_real(r->sparsity), "seconds", r->seconds);
        for (int trait = 0; trait < traits_of(r); trait++)
            json_object_set_new(one, trait_names[trait], cli_json_real(share_of(r, trait)));
        json_object_set_new(one, "all", cli_json_real(r->all));
        if (s->to.compare > 0) {
            json_object_set_new(one, "psnr", cli_json_real(r->psnr));
            json_object_set_new(one, "ssim", cli_json_real(r->ssim));
            json_object_set_new(one, "border", cli_json_real(r->border));
            json_object_set_new(one, "kept_mass", cli_json_real(r->kept_mass));
        }
        if (i > 0) json_object_set_new(one, "against", differences(policies->item[0], &results[0], r));
        if (!code) code = cli_profile_engine("eval", &s->common, &p, &profiles[i], one);
        json_array_append_new(all, one);
    }
    if (!code) return cli_print_json("eval", all);
    json_decref(all);
    return code;
}

/* A figure in so many columns; "-" where there is nothing to tell. */
static void print_figure(int width, int decimals, double value) {
    if (isnan(value))
        printf(" %*s", width, "-");
    else
        printf(" %*.*f", width, decimals, value);
}

/* Clips of the policies beside those of the first one. */
static void report_clips(const settings *s, const cli_list *policies, const nabla_eval_result *results) {
    printf("\nthe first %d clips against those of %s; kept: block probability; border: tiles' edges over others\n",
           s->to.compare, policies->item[0]);
    printf("%-26s %8s %8s %8s %8s\n", "policy", "PSNR", "SSIM", "kept", "border");
    for (int32_t i = 0; i < policies->count; i++) {
        const nabla_eval_result *r = &results[i];
        printf("%-26s", policies->item[i]);
        print_figure(8, 2, r->psnr);
        print_figure(8, 4, r->ssim);
        print_figure(8, 3, r->kept_mass);
        print_figure(8, 3, r->border);
        printf("\n");
    }
}

static int report(const settings *s, const cli_list *policies, const nabla_eval_result *results,
                  const nabla_video_profile *profiles) {
    cli_profile p = {0};
    int code = 0;
    const int traits = traits_of(&results[0]);
    printf("%-26s", "policy");
    for (int trait = 0; trait < traits; trait++)
        printf(" %8s", trait_names[trait]);
    printf(" %8s %9s %7s\n", "all", "sparsity", "s/clip");
    for (int32_t i = 0; i < policies->count; i++) {
        const nabla_eval_result *r = &results[i];
        printf("%-26s", policies->item[i]);
        for (int trait = 0; trait < traits; trait++)
            printf(" %6.1f %%", 100 * share_of(r, trait));
        printf(" %6.1f %% %7.1f %% %7.2f\n", 100 * r->all, fmax(0, 100 * r->sparsity), r->seconds);
    }
    printf("%d steps of %s\n", results[0].steps, results[0].solver);
    if (policies->count > 1)
        printf("\nagainst %s, on the same %d prompts and noise, in points with 95 %% confidence intervals:\n",
               policies->item[0], results[0].prompts);
    for (int32_t i = 1; i < policies->count; i++) {
        printf("%-26s", policies->item[i]);
        for (int trait = 0; trait < traits; trait++) {
            const nabla_eval_difference d = compare(&results[0], &results[i], trait);
            printf("  %s %+.1f [%+.1f, %+.1f]", trait_names[trait], 100 * d.difference, 100 * d.low, 100 * d.high);
        }
        printf("\n");
    }
    if (s->to.compare > 0) report_clips(s, policies, results);
    fflush(stdout);
    for (int32_t i = 0; i < policies->count && s->common.profile && !code; i++) {
        cli_note("policy %s", policies->item[i]);
        code = cli_profile_engine("eval", &s->common, &p, &profiles[i], NULL);
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
        if (!code && policy.int8 && s->common.device && strcmp(s->common.device, "cpu") != 0)
            code = cli_fail("eval", "policy %s: attention in int8 runs on the CPU alone; leave _int8 out, or --device",
                            list->item[i]);
        for (int32_t j = 0; !code && s->to.output && j < i; j++)
            if (strcmp(list->item[j], list->item[i]) == 0)
                code =
                    cli_misuse("eval", "-o writes files named after the policy, and %s is given twice: leave one out",
                               list->item[i]);
    }
    nabla_context_destroy(ctx);
    return code;
}

static int evaluate(settings *s, const char *model, const cli_list *policies, nabla_eval_result *results,
                    nabla_video_profile *profiles) {
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
        s->to.model = i == 0 && s->reference ? s->reference : model;
        s->to.reference = results[0].clips; /* NULL for the first */
        if (i > 0) s->to.data = results[0].data;
        if (!s->common.quiet) cli_note("policy %s", s->to.policy);
        const nabla_status status = nabla_evaluate(&s->to, &machine, &results[i], &err);
        cli_progress_clear(&progress);
        if (status != NABLA_OK) return cli_fail_status("eval", status, err.text);
        if (i == 0) continue;
        nabla_eval_clips_destroy(results[i].clips);
        results[i].clips = NULL;
    }
    return s->common.json ? report_json(s, policies, results, profiles) : report(s, policies, results, profiles);
}

static const cli_option options[] = {
    CLI_FLAG("model", TEXT, "DIR", to.model, "a model's folder [the bundled demo]"),
    CLI_FLAG("policies", TEXT, "P1,P2,...", policies, "compared with the first [dense, the model's own]"),
    CLI_RANGE("prompts", INT32, to.prompts, 1, NV_MOST_SAMPLES, "held-out captions []"),
    CLI_FLAG("data", CHOICE, "clips|scenes", to.data, "whose captions [those whose words the model knows]"),
    CLI_RANGE("compare", INT32, to.compare, 0, NV_MOST_SAMPLES, "first clips measured against the first policy's []"),
    CLI_RANGE("steps", INT32, to.steps, 1, NV_MOST_SAMPLE_STEPS, "sampling steps [the model's own]"),
    CLI_FLAG("solver", CHOICE, "unipc|dpm++|euler", to.solver, "[the model's own]"),
    CLI_RANGE("guidance", REAL, to.guidance, 0, NV_MOST_GUIDANCE, "[the model's own]"),
    CLI_RANGE("shift", REAL, to.shift, NV_LEAST_SHIFT, NV_MOST_SHIFT, "[the model's own]"),
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "pixels [the model's own]"),
    CLI_RANGE("frames", INT32, to.frames, 1, NV_MOST_FRAMES, "[the model's own]"),
    CLI_FLAG("seed", SEED, NULL, seed, "prompt i takes seed + i [0]"),
    CLI_FLAG("o,output", TEXT, "DIR", to.output, "outcomes by prompt, what plans keep: CSVs a policy"),
    CLI_THREADS,
    CLI_DTYPE("to compute in [bf16]"),
    CLI_JSON,
    CLI_QUIET,
    CLI_PROFILE,
    CLI_MORE,
    CLI_RANGE("clips", INT32, to.clips, 0, NV_MOST_SAMPLES, "first clips of --compare written to -o as video []"),
    CLI_FLAG("reference", TEXT, "DIR", reference, "another model, for the first policy [the same]"),
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
    s.to.width = s.size[0];
    s.to.height = s.size[1];
    if (s.seed.given) s.to.seed = s.seed.value;
    code = evaluate(&s, model, &policies, results, profiles);
    for (int32_t i = 0; i < CLI_LIST_MOST; i++) {
        free(results[i].right);
        nabla_eval_clips_destroy(results[i].clips);
    }
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

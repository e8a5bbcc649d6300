/* SPDX-License-Identifier: Apache-2.0 */
/* nabla generate: a prompt becomes a video. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/engine.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "media/media.h"
#include "nabla/video.h"
#include "video/limits.h"
#include "weights/safetensors.h"

typedef struct settings {
    cli_common common;
    nabla_generate_options to;
    int32_t size[2];
    cli_seed seed;
    nv_st_file *resumed; /* --resume's file, whose prompt may be pointed to */
} settings;

/* "A red circle, moving!" -> a-red-circle-moving.mp4, or the folder a-red-circle-moving/ in a build without FFmpeg */
static void name_after_prompt(const char *prompt, char *name, size_t size) {
    enum { LONGEST = 60 };
    size_t at = 0;
    for (const char *p = prompt; *p && at < LONGEST && at + 8 < size; p++) {
        const char c = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            name[at++] = c;
        else if (at > 0 && name[at - 1] != '-')
            name[at++] = '-';
    }
    while (at > 0 && name[at - 1] == '-')
        at--;
    snprintf(name + at, size - at, "%s%s", at ? "" : "video", nv_media_available() ? ".mp4" : "/");
}

/* A seed of nine digits or fewer, easy to type again. */
static int random_seed(uint64_t *seed) {
    if (getrandom(seed, sizeof *seed, 0) != (ssize_t)sizeof *seed)
        return cli_fail("generate", "no random seed to be had: %s; give one with --seed", strerror(errno));
    *seed %= 1000000000;
    return 0;
}

/* A number where JSON's readers can hold it, else its digits. */
static json_t *seed_json(uint64_t seed) {
    char digits[24];
    if (seed < 1ull << 53) return json_integer((json_int_t)seed);
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)seed);
    return json_string(digits);
}

static int report(const settings *s, const nabla_generate_result *r, double seconds) {
    const nabla_generate_options *to = &s->to;
    if (s->common.json)
        return cli_print_json(
            "generate",
            json_pack("{s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f, s:f, "
                      "s:f, s:f, s:f, s:f, s:f}",
                      "output", to->output, "model", to->model, "seed", seed_json(to->seed), "width", r->width,
                      "height", r->height, "frames", r->frames, "fps", r->fps, "steps", r->steps, "resumed_steps",
                      r->resumed_steps, "solver", r->solver, "guidance", (double)r->guidance, "shift", (double)r->shift,
                      "policy", r->policy, "sparsity", r->sparsity, "load_s", r->load_s, "text_s", r->text_s,
                      "sample_s", r->sample_s, "decode_s", r->decode_s, "write_s", r->write_s, "plan_s", r->plan_s,
                      "attention_s", r->attention_s, "products_s", r->products_s, "other_s", r->other_s, "total_s",
                      seconds));
    if (!s->common.quiet) {
        cli_note("%dx%d, %d frames at %d a second; %d steps of %s, guidance %g, shift %g", r->width, r->height,
                 r->frames, r->fps, r->steps, r->solver, (double)r->guidance, (double)r->shift);
        if (r->resumed_steps) cli_note("steps 1 to %d were done before", r->resumed_steps);
        cli_note("policy %s, sparsity %.1f %%", r->policy, fmax(0, 100 * r->sparsity));
        cli_note("%.2f s: load %.2f, text %.2f, sample %.2f (plans %.2f, attention %.2f, products %.2f, other %.2f), "
                 "decode %.2f, write %.2f",
                 seconds, r->load_s, r->text_s, r->sample_s, r->plan_s, r->attention_s, r->products_s, r->other_s,
                 r->decode_s, r->write_s);
    }
    printf("%s (seed %llu)\n", to->output, (unsigned long long)to->seed);
    return CLI_DONE;
}

/* Where --resume goes on, prompt and seed need not be said again. */
static int take_up(settings *s) {
    nv_error err = {0};
    if (!s->to.resume) return 0;
    if (nv_st_open(s->to.resume, &s->resumed, &err) != NABLA_OK) return cli_fail("generate", "%s", err.text);
    const char *prompt = nv_st_metadata(s->resumed, "prompt"), *seed = nv_st_metadata(s->resumed, "seed");
    if (!prompt || !seed)
        return cli_fail("generate", "'%s' is no checkpoint of a generation: give one that --checkpoint wrote",
                        s->to.resume);
    if (!s->to.prompt && !s->common.argument_count) s->to.prompt = prompt;
    if (!s->seed.given) s->seed = (cli_seed){strtoull(seed, NULL, 10), 1};
    return 0;
}

static int check(settings *s, char *name, size_t name_size) {
    nabla_generate_options *to = &s->to;
    const char *argument = s->common.argument_count ? s->common.arguments[0] : NULL;
    const int taken = take_up(s);
    if (taken) return taken;
    if (argument && to->prompt)
        return cli_misuse("generate", "the prompt is given twice, '%s' and with --prompt: leave one out", argument);
    if (argument) to->prompt = argument;
    if (!to->prompt || !to->prompt[strspn(to->prompt, " \t\r\n")])
        return cli_misuse("generate", "no prompt given: say what to show, such as nabla generate \"a red circle moving "
                                      "right\"");
    if (!to->output) {
        name_after_prompt(to->prompt, name, name_size);
        to->output = name;
        if (!nv_media_available() && !s->common.quiet)
            cli_note("this build has no FFmpeg and writes no .mp4: the frames go to %s", name);
    }
    const char *const written[] = {to->output, to->save_latent, to->mask_png, to->preview, to->checkpoint};
    for (size_t i = 0; i < sizeof written / sizeof written[0]; i++) {
        const int code = written[i] ? cli_check_output("generate", written[i]) : 0;
        if (code) return code;
    }
    to->policy = s->common.policy;
    to->width = s->size[0];
    to->height = s->size[1];
    to->seed = s->seed.value;
    return s->seed.given ? 0 : random_seed(&to->seed);
}

static int generate(settings *s) {
    char name[80], model[4096];
    nabla_video_error err = {0};
    nabla_generate_result result = {.size = sizeof result};
    cli_progress progress = cli_progress_make(s->common.quiet);
    nabla_video_machine machine;
    int code = check(s, name, sizeof name);
    if (!code) code = cli_engine_machine("generate", &s->common, &progress, &machine);
    if (!code) code = cli_engine_model("generate", s->to.model, model, sizeof model);
    if (code) return code;
    s->to.model = model;
    if (!s->common.quiet && !s->seed.given) cli_note("seed %llu", (unsigned long long)s->to.seed);
    const double began = cli_seconds();
    const nabla_status status = nabla_generate(&s->to, &machine, &result, &err);
    cli_progress_clear(&progress);
    const char *checkpoint = s->to.checkpoint ? s->to.checkpoint : s->to.resume;
    if (status == NABLA_CANCELLED && checkpoint)
        cli_note("saved: the same command with --resume %s goes on from here", checkpoint);
    if (status != NABLA_OK) return cli_fail_status("generate", status, err.text);
    if (result.warning[0]) cli_note("warning: %s", result.warning);
    return report(s, &result, cli_seconds() - began);
}

static const cli_option options[] = {
    CLI_FLAG("o,output", TEXT, "OUT", to.output, ".mp4, .gif, .png or a folder/ [PROMPT.mp4 or PROMPT/]"),
    CLI_FLAG("model", TEXT, "DIR", to.model, "a model's folder [the bundled demo]"),
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "pixels [the model's own]"),
    CLI_RANGE("frames", INT32, to.frames, 1, NV_MOST_FRAMES, "[the model's own]"),
    CLI_RANGE("steps", INT32, to.steps, 1, NV_MOST_SAMPLE_STEPS, "sampling steps [the model's own]"),
    CLI_FLAG("solver", CHOICE, "unipc|dpm++|euler", to.solver, "[the model's own: euler; unipc to come for Wan]"),
    CLI_RANGE("guidance", REAL, to.guidance, 0, NV_MOST_GUIDANCE,
              "pull to the prompt; 1: none, faster [the model's own]"),
    CLI_FLAG("seed", SEED, NULL, seed, "the same seed gives the same video [random, printed]"),
    CLI_POLICY("dense, nabla-0.7, sta-3-3-3 ... [the model's own]"),
    CLI_RANGE("dense-steps", INT32, to.dense_steps, 0, NV_MOST_SAMPLE_STEPS, "first steps with dense attention [0]"),
    CLI_FLAG("mask", TEXT, "FILE.png", to.mask_png, "draws the blocks kept in the last step, middle layer"),
    CLI_FLAG("preview", TEXT, "DIR", to.preview, "a picture every few steps goes there"),
    CLI_THREADS,
    CLI_DTYPE("to compute in [bf16]"),
    CLI_JSON,
    CLI_QUIET,
    CLI_MORE,
    CLI_FLAG("prompt", TEXT, "TEXT", to.prompt, "in place of the argument"),
    CLI_FLAG("negative", PROMPT, "TEXT", to.negative, "what to keep away from [the model's own]"),
    CLI_RANGE("shift", REAL, to.shift, NV_LEAST_SHIFT, NV_MOST_SHIFT, "shift of the noise schedule [the model's own]"),
    CLI_FLAG("checkpoint", TEXT, "FILE", to.checkpoint, "kept up to date as steps are done, for --resume"),
    CLI_FLAG("resume", TEXT, "FILE", to.resume, "goes on from there with its settings, to the same bits"),
    CLI_RANGE("fps", INT32, to.fps, 1, NV_MOST_FPS, "frames a second [the model's own]"),
    CLI_RANGE("crf", INT32, to.crf, 0, NV_MOST_CRF, "H.264 quality, 0 the best [18]"),
    CLI_RANGE("preview-every", INT32, to.preview_every, 1, NV_MOST_SAMPLE_STEPS, "steps between pictures []"),
    CLI_FLAG("init-noise", TEXT, "FILE", to.init_noise, "its tensor `noise`, fp32 [C, F, h, w], to start from"),
    CLI_FLAG("save-latent", TEXT, "FILE", to.save_latent, "gets tensor `latent`, fp32 [C, F, h, w]"),
    CLI_LEVEL,
    CLI_DEVICE,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.to = nabla_generate_options_default()};
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    code = generate(&s);
    nv_st_close(s.resumed);
    return code;
}

const cli_verb cli_verb_generate = {
    .name = "generate",
    .arguments = "\"PROMPT\"",
    .summary = "a video from a prompt",
    .about = "A video from a prompt, such as \"a small blue square moving down\".",
    .example = "example: nabla generate \"a red circle moving right\" --seed 7 -o circle.mp4",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .too_many = "put the whole prompt in quotes",
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* nabla generate: prompts become videos. */
#include "cli/generate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/engine.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "media/media.h"
#include "video/limits.h"

typedef cli_generate settings;

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

/* Where --resume goes on, prompt and seed need not be said again. */
static int take_up(settings *s) {
    nv_error err = {0};
    if (!s->to.resume) return 0;
    if (nv_st_open(s->to.resume, &s->resumed, &err) != NABLA_OK) return cli_fail("generate", "%s", err.text);
    const char *prompt = nv_st_metadata(s->resumed, "prompt"), *seed = nv_st_metadata(s->resumed, "seed");
    if (!prompt || !seed)
        return cli_fail("generate", "'%s' is no checkpoint of a generation: give one that --checkpoint wrote",
                        s->to.resume);
    if (!s->to.prompt && !s->common.argument_count && !s->prompt_path) s->to.prompt = prompt;
    if (!s->seed.given) s->seed = (cli_seed){strtoull(seed, NULL, 10), 1};
    return 0;
}

/* The argument, --prompt or --prompts, one of them. */
static int read_prompts(settings *s) {
    nabla_generate_options *to = &s->to;
    const char *argument = s->common.argument_count ? s->common.arguments[0] : NULL;
    if (argument && to->prompt)
        return cli_misuse("generate", "the prompt is given twice, '%s' and with --prompt: leave one out", argument);
    if (argument) to->prompt = argument;
    if (s->prompt_path) {
        if (to->prompt) return cli_misuse("generate", "a prompt and --prompts: leave one out");
        const int code = cli_prompt_file_read("generate", s->prompt_path, &s->prompts);
        to->prompts = s->prompts.prompts;
        to->prompt_count = s->prompts.count;
        return code;
    }
    if (!to->prompt || !to->prompt[strspn(to->prompt, " \t\r\n")])
        return cli_misuse("generate", "no prompt given: say what to show, such as nabla generate \"a red circle moving "
                                      "right\"");
    return 0;
}

/* FILE or FILE:STRENGTH, where FILE may hold colons too. */
static int read_loras(settings *s) {
    for (int32_t i = 0; i < s->loras.count; i++) {
        char *file = strdup(s->loras.values[i]);
        double strength = 1;
        if (!file) return cli_fail("generate", "no memory for a path");
        char *colon = strrchr(file, ':');
        if (colon && cli_read_real(colon + 1, -100, 100, &strength)) *colon = '\0';
        s->lora_list[i] = (nabla_lora){file, (float)strength};
        s->to.lora_count = i + 1;
        if (access(file, R_OK) != 0)
            return cli_fail("generate", "cannot open the LoRA '%s': %s; give FILE or FILE:STRENGTH, such as x:0.8",
                            file, strerror(errno));
    }
    s->to.loras = s->lora_list;
    return 0;
}

static int check_outputs(settings *s) {
    const nabla_generate_options *to = &s->to;
    const char *const written[] = {to->output, to->save_latent, to->mask_png, to->preview, to->checkpoint};
    for (size_t i = 0; i < sizeof written / sizeof written[0]; i++) {
        const int code = written[i] ? cli_check_output("generate", written[i]) : 0;
        if (code) return code;
    }
    return 0;
}

static int check(settings *s) {
    nabla_generate_options *to = &s->to;
    int code = take_up(s);
    if (!code) code = read_prompts(s);
    if (!code) code = read_loras(s);
    if (code) return code;
    if (!to->output) {
        name_after_prompt(to->prompt ? to->prompt : "", s->name, sizeof s->name);
        to->output = s->name;
        if (!nv_media_available() && !s->common.quiet)
            cli_note("this build has no FFmpeg and writes no .mp4: the frames go to %s", s->name);
    }
    code = check_outputs(s);
    if (code) return code;
    to->policy = s->common.policy;
    to->width = s->size[0];
    to->height = s->size[1];
    to->seed = s->seed.value;
    to->begin = cli_generate_announce;
    to->begin_user = s;
    return s->seed.given ? 0 : random_seed(&to->seed);
}

static int generate(settings *s) {
    char model[4096];
    nabla_video_error err = {0};
    nabla_generate_result result = {.size = sizeof result, .densities = s->densities};
    cli_progress progress = cli_progress_make(s->common.quiet);
    nabla_video_profile profile = {.size = sizeof profile};
    nabla_video_machine machine;
    int code = check(s);
    if (!code) code = cli_engine_machine("generate", &s->common, &progress, &machine);
    if (code) return code;
    if (s->to.model || !s->to.transformer) {
        code = cli_engine_model("generate", s->to.model, model, sizeof model);
        s->to.model = model;
    }
    if (code) return code;
    if (!s->common.quiet && !s->seed.given) cli_note("seed %llu", (unsigned long long)s->to.seed);
    if (s->common.profile) machine.profile = &profile;
    const double began = cli_seconds();
    const nabla_status status = nabla_generate(&s->to, &machine, &result, &err);
    cli_progress_clear(&progress);
    if (status == NABLA_OK) return cli_generate_report(s, &result, &profile, cli_seconds() - began);
    cli_generate_left(s, &result);
    return cli_fail_status("generate", status, err.text);
}

static const cli_option options[] = {
    CLI_FLAG("o,output", TEXT, "OUT", to.output, ".mp4, .gif, .png, .safetensors, folder/ [PROMPT.mp4]"),
    CLI_FLAG("model", TEXT, "DIR", to.model, "ours or Wan2.1's, a folder [the bundled demo]"),
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "or 480p, 720p, square, portrait [the model's]"),
    CLI_RANGE("frames", INT32, to.frames, 1, NV_MOST_FRAMES, "Wan2.1: 4n+1 [the model's own]"),
    CLI_RANGE("steps", INT32, to.steps, 1, NV_MOST_SAMPLE_STEPS, "sampling steps [the model's own]"),
    CLI_FLAG("solver", CHOICE, "unipc|dpm++|euler", to.solver, "[the model's own; Wan2.1: unipc]"),
    CLI_RANGE("guidance", REAL, to.guidance, 0, NV_MOST_GUIDANCE,
              "pull to the prompt; 1: none, faster [the model's own]"),
    CLI_FLAG("seed", SEED, NULL, seed, "the same seed gives the same video [random, printed]"),
    CLI_POLICY("dense, nabla-0.7, sta-3-3-3 ... [the model's own]"),
    CLI_RANGE("dense-steps", INT32, to.dense_steps, 0, NV_MOST_SAMPLE_STEPS,
              "first steps dense [0; 12 for sta alone on Wan2.1]"),
    CLI_FLAG("lora", TEXTS, "FILE[:X]", loras, "at strength X; may be given several times"),
    CLI_FLAG("prompts", TEXT, "FILE", prompt_path, "a prompt a line; outputs are numbered, seeds too"),
    CLI_FLAG("preview", TEXT, "DIR", to.preview, "a film strip every few steps goes there"),
    CLI_THREADS,
    CLI_DTYPE("to compute in [bf16]"),
    CLI_QUIET,
    CLI_MORE,
    CLI_JSON,
    CLI_FLAG("prompt", TEXT, "TEXT", to.prompt, "in place of the argument"),
    CLI_FLAG("negative", PROMPT, "TEXT", to.negative, "what to keep away from [the model's own]"),
    CLI_RANGE("shift", REAL, to.shift, NV_LEAST_SHIFT, NV_MOST_SHIFT,
              "of the noise schedule [Wan2.1: 5 from 720p, else 3]"),
    CLI_FLAG("offload", SWITCH, NULL, to.offload, "blocks' weights stay in the host's memory [if they must]"),
    CLI_FLAG("transformer", TEXT, "FILE", to.transformer, "a Wan2.1 model's parts in files of their own"),
    CLI_FLAG("text-encoder", TEXT, "FILE", to.text_encoder, "the same"),
    CLI_FLAG("vae", TEXT, "FILE", to.vae, "the same"),
    CLI_FLAG("checkpoint", TEXT, "FILE", to.checkpoint, "kept up to date as steps are done, for --resume"),
    CLI_FLAG("resume", TEXT, "FILE", to.resume, "goes on; the same bits on the same machine and threads"),
    CLI_FLAG("mask", TEXT, "FILE.png", to.mask_png, "draws the blocks kept in the last step, middle layer"),
    CLI_RANGE("fps", INT32, to.fps, 1, NV_MOST_FPS, "frames a second [the model's own]"),
    CLI_RANGE("crf", INT32, to.crf, 0, NV_MOST_CRF, "H.264 quality, 0 the best [18]"),
    CLI_RANGE("preview-every", INT32, to.preview_every, 1, NV_MOST_SAMPLE_STEPS, "steps between pictures []"),
    CLI_FLAG("init-noise", TEXT, "FILE", to.init_noise, "its tensor `noise`, fp32 [C, F, h, w], to start from"),
    CLI_FLAG("save-latent", TEXT, "FILE", to.save_latent, "gets tensor `latent`, fp32 [C, F, h, w]"),
    CLI_PROFILE,
    CLI_LEVEL,
    CLI_DEVICE,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings *s = calloc(1, sizeof *s);
    if (!s) return cli_fail("generate", "no memory to begin with");
    s->to = nabla_generate_options_default();
    int code = cli_parse(verb, argc, argv, s);
    if (code < 0) code = generate(s);
    for (int32_t i = 0; i < s->to.lora_count; i++)
        free((char *)(uintptr_t)s->lora_list[i].file);
    cli_prompt_file_free(&s->prompts);
    nv_st_close(s->resumed);
    free(s);
    return code;
}

const cli_verb cli_verb_generate = {
    .name = "generate",
    .arguments = "\"PROMPT\"",
    .summary = "a video from a prompt",
    .about = "A video from a prompt, such as \"a small blue square moving down\"; from any,\n"
             "with the folder of a Wan2.1 text-to-video model as --model.",
    .example = "example: nabla generate \"a red circle moving right\" --seed 7 -o circle.mp4",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .too_many = "put the whole prompt in quotes",
    .run = run,
};

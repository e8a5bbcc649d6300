/* SPDX-License-Identifier: Apache-2.0 */
/* nabla encode: what a Wan model's text encoder makes of a prompt. */
#include <stdio.h>

#include "cli/engine.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "nabla/video.h"

typedef struct settings {
    cli_common common;
    nabla_encode_options to;
} settings;

static int check(settings *s) {
    nabla_encode_options *to = &s->to;
    const char *argument = s->common.argument_count ? s->common.arguments[0] : NULL;
    if (argument && to->prompt)
        return cli_misuse("encode", "the prompt is given twice, '%s' and with --prompt: leave one out", argument);
    if (argument) to->prompt = argument;
    if (!to->model && !to->text_encoder)
        return cli_misuse("encode", "no model given: name a Wan model's folder with --model");
    if (!to->prompt) return cli_misuse("encode", "no prompt given: say what to encode with --prompt");
    if (!to->output) return cli_misuse("encode", "no output given: say where the context goes with -o");
    return cli_check_output("encode", to->output);
}

static int report(const settings *s, const nabla_encode_result *r, const nabla_video_machine *machine,
                  const nabla_video_profile *profile) {
    const char *dtype = machine->compute == NABLA_FP32 ? "fp32" : "bf16";
    char memory[32];
    if (s->common.json)
        return cli_profile_print_json("encode", &s->common, profile,
                                      json_pack("{s:s, s:s, s:i, s:i, s:I, s:i, s:I, s:f, s:f}", "output", s->to.output,
                                                "dtype", dtype, "tokens", r->tokens, "dim", r->dim, "cut",
                                                (json_int_t)r->cut, "layers", r->layers, "memory",
                                                (json_int_t)r->memory, "load_s", r->load_s, "encode_s", r->encode_s));
    if (!s->common.quiet)
        cli_note("%d tokens through %d layers in %s: %.2f s, %s of memory", r->tokens, r->layers, dtype, r->encode_s,
                 cli_format_bytes(r->memory, memory, sizeof memory));
    printf("%s (context [%d, %d])\n", s->to.output, r->tokens, r->dim);
    return cli_profile_print("encode", &s->common, profile);
}

static const cli_option options[] = {
    CLI_FLAG("model", TEXT, "DIR", to.model, "a Wan model's folder, diffusers' or the original's"),
    CLI_FLAG("prompt", PROMPT, "TEXT", to.prompt, "what to encode; the argument does as well"),
    CLI_FLAG("o,output", TEXT, "FILE", to.output, "gets tensor `context`, fp32 [tokens, dim], no padding"),
    CLI_FLAG("text-encoder", TEXT, "FILE", to.text_encoder, "its weights alone: .safetensors, .pth, an index"),
    CLI_THREADS,
    CLI_DTYPE("to compute in [bf16]"),
    CLI_JSON,
    CLI_QUIET,
    CLI_PROFILE,
    CLI_LEVEL,
    CLI_DEVICE,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.to = nabla_encode_options_default()};
    nabla_video_error err = {0};
    nabla_encode_result result = {.size = sizeof result};
    nabla_video_profile profile = {.size = sizeof profile};
    nabla_video_machine machine;
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    cli_progress progress = cli_progress_make(s.common.quiet);
    code = check(&s);
    if (!code) code = cli_engine_machine("encode", &s.common, &progress, &machine);
    if (code) return code;
    if (s.common.profile) machine.profile = &profile;
    const nabla_status status = nabla_encode(&s.to, &machine, &result, &err);
    cli_progress_clear(&progress);
    if (status != NABLA_OK) return cli_fail_status("encode", status, err.text);
    if (result.warning[0]) cli_note("warning: %s", result.warning);
    return report(&s, &result, &machine, &profile);
}

const cli_verb cli_verb_encode = {
    .name = "encode",
    .arguments = "\"PROMPT\" --model DIR -o FILE.safetensors",
    .summary = "what a Wan model's text encoder makes of a prompt",
    .about = "Cleans a prompt, cuts it into tokens (512 at most) and runs them through UMT5,\n"
             "one layer's weights in memory at a time.",
    .example = "example: nabla encode \"a cat on a skateboard\" --model wan -o cat.safetensors",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .too_many = "put the whole prompt in quotes",
    .run = run,
};

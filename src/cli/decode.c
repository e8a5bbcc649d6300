/* SPDX-License-Identifier: Apache-2.0 */
/* nabla decode: a latent becomes a video. */
#include <stdio.h>

#include "cli/engine.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "nabla/video.h"
#include "video/limits.h"

typedef struct settings {
    cli_common common;
    nabla_decode_options to;
} settings;

static int report(const settings *s, const nabla_decode_result *r, const nabla_video_profile *profile, double seconds) {
    char size[32];
    if (s->common.json)
        return cli_profile_print_json("decode", &s->common, profile,
                                      json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f}",
                                                "output", s->to.output, "model", s->to.model, "latent", s->to.latent,
                                                "width", r->width, "height", r->height, "frames", r->frames, "fps",
                                                r->fps, "tile", r->tile, "memory", r->memory, "load_s", r->load_s,
                                                "decode_s", r->decode_s, "write_s", r->write_s, "total_s", seconds));
    if (!s->common.quiet)
        cli_note("%dx%d, %d frames; %.2f s: load %.2f, decode %.2f, write %.2f; %s beside the weights", r->width,
                 r->height, r->frames, seconds, r->load_s, r->decode_s, r->write_s,
                 cli_format_bytes(r->memory, size, sizeof size));
    printf("%s\n", s->to.output);
    return cli_profile_print("decode", &s->common, profile);
}

static int decode(settings *s) {
    nabla_video_error err = {0};
    nabla_decode_result result = {.size = sizeof result};
    cli_progress progress = cli_progress_make(s->common.quiet);
    nabla_video_profile profile = {.size = sizeof profile};
    nabla_video_machine machine;
    if (!s->common.argument_count)
        return cli_misuse("decode", "no latent given: name a file that nabla generate --save-latent wrote");
    if (!s->to.model) return cli_misuse("decode", "no model given: name the folder that holds the VAE with --model");
    if (!s->to.output) return cli_misuse("decode", "no output given: name a file with -o, such as -o clip.mp4");
    s->to.latent = s->common.arguments[0];
    if (s->common.dtype) s->to.compute = s->common.dtype[0] == 'b' ? NABLA_BF16 : NABLA_FP32;
    int code = cli_check_output("decode", s->to.output);
    if (!code) code = cli_engine_machine("decode", &s->common, &progress, &machine);
    if (code) return code;
    if (s->common.profile) machine.profile = &profile;
    const double began = cli_seconds();
    const nabla_status status = nabla_decode(&s->to, &machine, &result, &err);
    cli_progress_clear(&progress);
    if (status != NABLA_OK) return cli_fail_status("decode", status, err.text);
    if (result.warning[0]) cli_note("warning: %s", result.warning);
    return report(s, &result, &profile, cli_seconds() - began);
}

static const cli_option options[] = {
    CLI_FLAG("o,output", TEXT, "OUT", to.output, ".mp4, .gif, .png, a folder/ or .safetensors"),
    CLI_FLAG("model", TEXT, "DIR", to.model, "a Wan2.1 folder, or its VAE's folder or file"),
    CLI_RANGE("tile", INT32, to.tile, 16, NV_MOST_SIDE, "pixels of blended tiles [where memory is short, 256]"),
    CLI_RANGE("fps", INT32, to.fps, 1, NV_MOST_FPS, "frames a second [the latent's own, else 16]"),
    CLI_RANGE("crf", INT32, to.crf, 0, NV_MOST_CRF, "H.264 quality, 0 the best [18]"),
    CLI_DTYPE("of the convolutions [fp32]"),
    CLI_THREADS,
    CLI_PROFILE,
    CLI_LEVEL,
    CLI_DEVICE,
    CLI_JSON,
    CLI_QUIET,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.to = nabla_decode_options_default()};
    const int code = cli_parse(verb, argc, argv, &s);
    return code >= 0 ? code : decode(&s);
}

const cli_verb cli_verb_decode = {
    .name = "decode",
    .arguments = "LATENT.safetensors --model DIR -o OUT",
    .summary = "a video from a latent, by the VAE of a Wan2.1 model",
    .about = "A video from the tensor `latent` of a file, fp32 [C, F, h, w], as nabla generate\n"
             "--save-latent leaves it; or, in a .safetensors, `frames` fp32 [3, T, H, W].",
    .example = "example: nabla decode latent.safetensors --model Wan2.1-T2V-1.3B -o clip.mp4",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .run = run,
};

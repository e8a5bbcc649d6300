/* SPDX-License-Identifier: Apache-2.0 */
/* nabla clips: writes some of the procedural training clips, to look at. */
#include <stdio.h>

#include "cli/engine.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "media/media.h"
#include "nabla/video.h"
#include "video/limits.h"

typedef struct settings {
    cli_common common;
    const char *output, *format, *data;
    int32_t count, frames, size[2];
    cli_seed seed;
} settings;

static const cli_option options[] = {
    CLI_FLAG("o,output", TEXT, "DIR", output, "clip-0001.mp4, clip-0001.txt ... go there []"),
    CLI_FLAG("data", CHOICE, "clips|scenes", data, "of one object, or of one or two []"),
    CLI_RANGE("count", INT32, count, 1, NV_MOST_SAMPLES, "clips []"),
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "pixels []"),
    CLI_RANGE("frames", INT32, frames, 1, NV_MOST_FRAMES, "of a clip []"),
    CLI_FLAG("format", CHOICE, "mp4|gif|png", format, "png: the middle frame, with or without FFmpeg []"),
    CLI_FLAG("seed", SEED, NULL, seed, "[0]"),
    CLI_QUIET,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.output = "clips", .count = 16, .frames = nabla_train_options_default().frames, .size = {192, 192}};
    s.data = "clips";
    s.format = nv_media_available() ? "mp4" : "png";
    nabla_video_error err = {0};
    nabla_video_machine machine;
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    cli_progress progress = cli_progress_make(s.common.quiet);
    code = cli_engine_machine("clips", &s.common, &progress, &machine);
    if (!code) code = cli_check_output("clips", s.output);
    if (code) return code;
    const nabla_status status = nabla_write_clips(s.output, s.format, s.data, s.count, s.frames, s.size[1], s.size[0],
                                                  s.seed.value, &machine, &err);
    cli_progress_clear(&progress);
    if (status != NABLA_OK) return cli_fail_status("clips", status, err.text);
    printf("%s: %d clips\n", s.output, s.count);
    return CLI_DONE;
}

const cli_verb cli_verb_clips = {
    .name = "clips",
    .arguments = "",
    .summary = "writes some of the procedural training clips, to look at",
    .about = "Writes procedural clips with their captions, as `train` makes them by itself.",
    .example = "example: nabla clips -o clips --count 9 --format gif",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 0,
    .run = run,
};

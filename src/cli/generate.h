/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H

#include "cli/options.h"
#include "cli/prompt_file.h"
#include "nabla/video.h"
#include "weights/safetensors.h"

typedef struct cli_generate {
    cli_common common;
    nabla_generate_options to;
    int32_t size[2];
    cli_seed seed;
    cli_texts loras;
    const char *prompt_path;
    cli_prompt_file prompts;
    nabla_lora lora_list[CLI_MOST_TEXTS]; /* the files' names are copies */
    char name[80];                        /* of an output that was not named */
    nv_st_file *resumed;                  /* --resume's file, whose prompt may be pointed to */
    float densities[NABLA_VIDEO_MOST_STEPS];
} cli_generate;

/* What will run, before it does: a nabla_generate_options.begin, whose user is a cli_generate. */
int cli_generate_announce(void *user, const nabla_generate_result *settled);
/* What an interrupted run left, and how to go on. */
void cli_generate_left(const cli_generate *s, const nabla_generate_result *r);
/* Figures and the files' names; the exit code. */
int cli_generate_report(const cli_generate *s, const nabla_generate_result *r, const nabla_video_profile *profile,
                        double seconds);

#endif

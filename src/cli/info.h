/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_INFO_H
#define CLI_INFO_H

#include "nabla/video.h"

/* The run whose memory is told. */
typedef struct cli_info_run {
    int32_t size[2], frames, asked; /* asked: the sizes are the user's own, so that they must fit */
    nabla_video_machine machine;
    const char *device; /* its name as the user gave it */
} cli_info_run;

/* Prints what the model in a folder is: its index, its transformer's sizes, its parameters, what is missing. Returns
   the exit code. */
int cli_info_model(const char *folder, const cli_info_run *run, int json);
/* The same of a Wan2.1 model's folder, or of its transformer's file. */
int cli_info_wan(const char *path, const cli_info_run *run, int json);

#endif

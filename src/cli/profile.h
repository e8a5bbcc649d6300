/* SPDX-License-Identifier: Apache-2.0 */
/* --profile: where the time of a run went, as a table on stderr or in the figures of --json. */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include <jansson.h>

#include "cli/options.h"
#include "nabla/video.h"

enum { CLI_PROFILE_ROWS = 64 };

typedef struct cli_profile_row {
    const char *part, *phase; /* phase NULL: the whole part, whose phases follow */
    double seconds, flop;     /* flop 0: it has no rate worth telling */
    nabla_dtype compute;
} cli_profile_row;

/* Begins all zero. Used again with `count` 0, the peaks need not be measured again. */
typedef struct cli_profile {
    cli_profile_row rows[CLI_PROFILE_ROWS];
    int32_t count;
    double peak[2]; /* operations a second of the machine in fp32 and bf16; 0: not measured yet */
} cli_profile;

/* Rows of no time at all are left out. */
void cli_profile_add(cli_profile *p, const char *part, const char *phase, double seconds, double flop,
                     nabla_dtype compute);
/* A part of the engine, and its phases where its device told them apart. */
void cli_profile_add_part(cli_profile *p, const char *part, const nabla_video_part_time *time);

/* Without --profile nothing. Shares are of all rows of whole parts. Measures the machine's peaks, which takes a second
   or so; `figures` (NULL unless --json) gets an array `profile`. 0, or the exit code after a message. */
int cli_profile_report(const char *verb, const cli_common *common, cli_profile *p, json_t *figures);
/* The same of a call of the engine; what p holds of another is gone. */
int cli_profile_engine(const char *verb, const cli_common *common, cli_profile *p, const nabla_video_profile *engine,
                       json_t *figures);
/* Prints the figures of one call, its profile in them, and frees them. The exit code. */
int cli_profile_print_json(const char *verb, const cli_common *common, const nabla_video_profile *engine,
                           json_t *figures);
/* Prints its table alone, where --profile asks for it. */
int cli_profile_print(const char *verb, const cli_common *common, const nabla_video_profile *engine);

#endif

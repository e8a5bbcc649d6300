/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "nabla/video.h"

typedef struct cli_progress {
    int quiet, terminal;
    int shown; /* columns of the bar that stands on the terminal's line; 0: none */
    char phase[32];
    double began, said; /* seconds: of the phase, of the last line */
    int64_t first;      /* units done when the phase began (a resumed run does not begin at 0) */
    int64_t last;       /* units done at the last report; fewer in the next: the same phase begins anew */
    double lines_every; /* seconds between plain lines */
} cli_progress;

cli_progress cli_progress_make(int quiet);
/* A nabla_video_progress over a cli_progress; cancels once a signal came. */
int cli_progress_report(void *user, const char *phase, int64_t done, int64_t total, const char *note);
/* Takes the bar off the line, so that something else can be printed. */
void cli_progress_clear(cli_progress *p);

/* Seconds of a clock that only goes forward. */
double cli_seconds(void);
/* 75 -> "1:15", 4000 -> "1:06:40". Returns text. */
const char *cli_format_time(double seconds, char *text, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/report.h"
#include "cli/signals.h"

double cli_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

const char *cli_format_time(double seconds, char *text, size_t size) {
    const long long whole = seconds > 0 && seconds < 1e12 ? (long long)(seconds + 0.5) : 0;
    if (whole >= 3600)
        snprintf(text, size, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(text, size, "%lld:%02lld", whole / 60, whole % 60);
    return text;
}

cli_progress cli_progress_make(int quiet) {
    return (cli_progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO), .lines_every = 10};
}

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void cli_progress_clear(cli_progress *p) {
    if (p->shown) fprintf(stderr, "\r%*s\r", p->shown, "");
    p->shown = 0;
}

/* "sample  [#########.......] 9/16  0:12 left  loss 0.1", cut to the terminal. */
static void draw(cli_progress *p, int64_t done, int64_t total, const char *left, const char *note) {
    enum { BAR = 24 };
    char bar[BAR + 1], line[512];
    const int filled = total > 0 ? (int)((double)done / (double)total * BAR) : 0;
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)(filled < 0 ? 0 : filled > BAR ? BAR : filled));
    bar[BAR] = '\0';
    const int length = snprintf(line, sizeof line, "%-7s [%s] %lld/%lld  %s  %s", p->phase, bar, (long long)done,
                                (long long)total, left, note);
    const int width = terminal_width() - 1;
    const int columns = length < width ? length : width;
    fprintf(stderr, "\r%.*s%*s", columns, line, p->shown > columns ? p->shown - columns : 0, "");
    p->shown = columns;
    fflush(stderr);
}

int cli_progress_report(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    cli_progress *p = user;
    if (cli_stop_asked()) {
        cli_progress_clear(p);
        return 1;
    }
    if (p->quiet) return 0;
    const double now = cli_seconds();
    if (strncmp(p->phase, phase, sizeof p->phase - 1) != 0 || done < p->last) {
        snprintf(p->phase, sizeof p->phase, "%s", phase);
        p->began = now;
        p->said = p->terminal ? 0 : now;
        p->first = done;
    }
    p->last = done;
    char left[40] = "", time[24], safe[256];
    const int64_t gone = done - p->first;
    if (done >= total)
        snprintf(left, sizeof left, "%s", cli_format_time(now - p->began, time, sizeof time));
    else if (gone > 0)
        snprintf(left, sizeof left, "%s left",
                 cli_format_time((now - p->began) / (double)gone * (double)(total - done), time, sizeof time));
    note = note ? cli_escape(note, safe, sizeof safe) : "";
    if (p->terminal && (now - p->said >= 0.1 || done >= total)) {
        draw(p, done, total, left, note);
        p->said = now;
    } else if (!p->terminal &&
               (now - p->said >= p->lines_every || (done >= total && now - p->began >= p->lines_every / 4))) {
        fprintf(stderr, "%s %lld/%lld%s%s%s%s\n", p->phase, (long long)done, (long long)total, left[0] ? ", " : "",
                left, note[0] ? ", " : "", note);
        p->said = now;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "cli/options.h"

static volatile sig_atomic_t asked, asked_at; /* the signal, and the second it came in */

/* The first asks to stop; one that comes later, from somebody who will not wait, kills. timeout(1) sends each signal
   twice at once, to the process and to its group: those are one. */
static void note_signal(int number) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const sig_atomic_t second = (sig_atomic_t)(now.tv_sec & 0x3fffffff);
    if (!asked) {
        asked_at = second;
        asked = number;
    } else if (second - asked_at > 1) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

static void catch_signal(int number) {
    struct sigaction old;
    struct sigaction action = {.sa_handler = note_signal};
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    /* A signal that whoever started the program chose to ignore (a shell's background job) stays ignored. */
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(number, &action, NULL);
}

void cli_catch_signals(void) {
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
}

int cli_stop_asked(void) {
    return asked;
}

int cli_interrupted(const char *verb) {
    fprintf(stderr, "nabla %s: interrupted\n", verb);
    return asked ? 128 + asked : CLI_INTERRUPTED;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include <signal.h>
#include <stdio.h>

#include "cli/options.h"

static volatile sig_atomic_t asked;

static void note_signal(int number) {
    asked = number;
}

static void catch_signal(int number) {
    struct sigaction old;
    struct sigaction action = {.sa_handler = note_signal};
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART; /* the second one finds the default action: it kills */
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

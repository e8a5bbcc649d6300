/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include <signal.h>
#include <stdio.h>

#include "cli/options.h"

static volatile sig_atomic_t asked;

static void note_signal(int number) {
    asked = number;
}

void cli_catch_signals(void) {
    struct sigaction action = {.sa_handler = note_signal};
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART; /* the second one finds the default action: it kills */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int cli_stop_asked(void) {
    return asked;
}

int cli_interrupted(const char *verb) {
    fprintf(stderr, "nabla %s: interrupted\n", verb);
    return asked ? 128 + asked : CLI_INTERRUPTED;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C: the first asks the running work to stop and save, a second that comes later kills. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

/* From now on the first SIGINT or SIGTERM is only noted. */
void cli_catch_signals(void);
/* The signal that came, or 0. */
int cli_stop_asked(void);
/* Says so and returns the exit code, 128 + the signal: 130 after Ctrl-C. */
int cli_interrupted(const char *verb);

#endif

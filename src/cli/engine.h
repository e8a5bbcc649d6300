/* SPDX-License-Identifier: Apache-2.0 */
/* What verbs that run the engine share. */
#ifndef CLI_ENGINE_H
#define CLI_ENGINE_H

#include "cli/options.h"
#include "cli/progress.h"

/* The machine that the common flags ask for, with progress to `progress` (NULL: nobody watches). Returns 0 or the exit
 * code. */
int cli_engine_machine(const char *verb, const cli_common *common, cli_progress *progress, nabla_video_machine *out);

/* `given`, or the bundled demo where that is NULL: beside the installed program (../share/nabla/models/demo), else in
   the sources that it was built from. Returns 0, or the exit code after saying where it looked. */
int cli_engine_model(const char *verb, const char *given, char *path, size_t size);

#endif

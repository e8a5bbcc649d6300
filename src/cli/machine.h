/* SPDX-License-Identifier: Apache-2.0 */
/* This machine, and the context that the common flags ask for. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include "cli/options.h"

/* The checks of --device, --threads, --level, --dtype that every verb shares. 0, or the exit code after a message. */
int cli_check_machine(const char *verb, const cli_common *common);
/* A context as the flags want it; NULL after a message, the exit code in *code. */
nabla_context *cli_context(const char *verb, const cli_common *common, int *code);
/* --policy, checked. 0, or the exit code. */
int cli_policy(const char *verb, nabla_context *ctx, const char *text, nabla_policy *out);

int cli_processors(void);
/* "AMD EPYC ..." as the system names it; "" if it does not. Returns text. */
const char *cli_processor_name(char *text, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* This machine, and the context that the common flags ask for. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include "cli/options.h"

/* What --device says. 0, or the exit code after a message. */
int cli_device(const char *verb, const cli_common *common, nabla_device *device, int32_t *ordinal);
/* Whether that device is here: 0, or the exit code after a message. */
int cli_check_device(const char *verb, const cli_common *common);
/* A context as the flags want it; NULL after a message, the exit code in *code. */
nabla_context *cli_context(const char *verb, const cli_common *common, int *code);
/* --policy, checked. 0, or the exit code. */
int cli_policy(const char *verb, nabla_context *ctx, const char *text, nabla_policy *out);

/* Bytes that are free on the device of --device, 0 where that is not known; *kind is "memory" or "GPU memory". */
double cli_memory_available(const cli_common *common, const char **kind);

int cli_processors(void);
/* "AMD EPYC ..." as the system names it; "" if it does not. Returns text. */
const char *cli_processor_name(char *text, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts in a file, one a line; empty lines are none. */
#ifndef CLI_PROMPT_FILE_H
#define CLI_PROMPT_FILE_H

#include <stdint.h>

typedef struct cli_prompt_file {
    char *text;
    const char **prompts; /* [count], in text */
    int32_t count;
} cli_prompt_file;

/* Returns 0, or the exit code after saying what is wrong. */
int cli_prompt_file_read(const char *verb, const char *path, cli_prompt_file *out);
void cli_prompt_file_free(cli_prompt_file *file); /* an all-zero one is fine */

#endif

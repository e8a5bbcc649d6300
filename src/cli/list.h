/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in a flag's value: "dense,nabla-0.7". */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include <stdint.h>

enum { CLI_LIST_MOST = 64 };

typedef struct cli_list {
    int32_t count;
    const char *item[CLI_LIST_MOST];
    char text[2048]; /* where the items are */
} cli_list;

/* Cuts text at its commas. 0, or the exit code: something is empty, or there is too much. `flag` is for the message. */
int cli_list_read(const char *verb, const char *flag, const char *text, cli_list *list);

#endif

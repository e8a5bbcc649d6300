/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/list.h"

#include <string.h>

#include "cli/report.h"

int cli_list_read(const char *verb, const char *flag, const char *text, cli_list *list) {
    list->count = 0;
    if (strlen(text) >= sizeof list->text)
        return cli_misuse(verb, "--%s is longer than %zu bytes: give fewer at a time", flag, sizeof list->text);
    memcpy(list->text, text, strlen(text) + 1);
    for (char *at = list->text; at; list->count++) {
        char *comma = strchr(at, ',');
        if (comma) *comma++ = '\0';
        if (at[0] == '\0') return cli_misuse(verb, "--%s has an empty item in '%s': leave it out", flag, text);
        if (list->count == CLI_LIST_MOST)
            return cli_misuse(verb, "--%s has more than %d items: give fewer at a time", flag, CLI_LIST_MOST);
        list->item[list->count] = at;
        at = comma;
    }
    return 0;
}

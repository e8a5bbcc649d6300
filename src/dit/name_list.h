/* SPDX-License-Identifier: Apache-2.0 */
/* Names to tell in an error: the first few, and how many more there are. */
#ifndef NV_DIT_NAME_LIST_H
#define NV_DIT_NAME_LIST_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { NV_MOST_NAMES = 3 };

typedef struct nv_name_list {
    size_t count;
    char text[200];
} nv_name_list;

static inline void nv_name_list_add(nv_name_list *l, const char *name) {
    const size_t at = strlen(l->text);
    if (l->count++ < NV_MOST_NAMES) snprintf(l->text + at, sizeof l->text - at, "%s\"%.60s\"", at ? ", " : "", name);
}

/* " and 5 more", or nothing. */
static inline const char *nv_name_list_more(const nv_name_list *l, char text[32]) {
    text[0] = '\0';
    if (l->count > NV_MOST_NAMES) snprintf(text, 32, " and %zu more", l->count - NV_MOST_NAMES);
    return text;
}

#endif

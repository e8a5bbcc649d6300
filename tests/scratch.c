/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "files.h"

static char folder[] = "scratch-XXXXXX";

int scratch_make(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

const char *scratch_path(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

size_t scratch_files(void) {
    DIR *dir = opendir(folder);
    size_t count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir) closedir(dir);
    return count;
}

int scratch_remove(void **state) {
    (void)state;
    return remove_tree(folder);
}

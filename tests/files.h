/* SPDX-License-Identifier: Apache-2.0 */
/* Files as a test looks at them. */
#ifndef NABLA_FILES_H
#define NABLA_FILES_H

#include <stddef.h>

/* The whole file with a NUL behind it, for free(); a missing one fails the test. */
char *read_all(const char *path, size_t *size);
/* Both are there, byte for byte the same. */
void assert_same_files(const char *a, const char *b);
/* The folder and all that is in it; 0, or -1. */
int remove_tree(const char *path);

#endif

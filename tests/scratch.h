/* SPDX-License-Identifier: Apache-2.0 */
/* A folder that lives as long as a test group, in the folder that the test runs in. */
#ifndef NABLA_SCRATCH_H
#define NABLA_SCRATCH_H

#include <stddef.h>

int scratch_make(void **state);             /* group setup */
int scratch_remove(void **state);           /* group teardown: removes it with what is left in it */
const char *scratch_path(const char *name); /* a path in it; a few may be held at once */
size_t scratch_files(void);                 /* how many files lie in it */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The levels of this machine: the CPU's, then those of GPU 0. */
#ifndef LEVELS_H
#define LEVELS_H

#include "nabla/nabla.h"

#include <stdbool.h>

/* The i-th; NULL past the last. */
const char *level_name(int32_t i);
bool level_on_gpu(const char *level);
/* only: NULL for all, "cpu", "cuda", or one level. */
bool level_wanted(const char *level, const char *only);
bool level_takes(const char *level, nabla_dtype dtype);
/* Why there are no levels of a GPU: one line. Nothing where there are, or where `only` does not ask for them. */
void level_print_missing(const char *only);

nabla_status level_context(const char *level, int32_t threads, nabla_context **out);

const char *dtype_text(nabla_dtype dtype);

#endif

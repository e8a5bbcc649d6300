/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERF_H
#define PERF_H

#include <stdint.h>

/* All return 0, or 1 after printing what failed. level: NULL for all, "cpu", "cuda", or one. peak: GFLOP/s of one core
   or of the GPU, 0 where unknown. threads: of the CPU's levels. */
int run_perf(const char *level, double peak, int32_t threads);
int run_mask(const char *level, int32_t threads);
int run_support(const char *level);

#endif

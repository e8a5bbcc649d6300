/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERF_H
#define PERF_H

/* Both return 0, or 1 after printing what failed. level: NULL for all, "cpu",
   "cuda", or one. peak: GFLOP/s of one core or of the GPU, 0 where unknown. */
int run_perf(const char *level, double peak);
int run_support(const char *level);

#endif

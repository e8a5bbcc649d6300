/* SPDX-License-Identifier: Apache-2.0 */
/* Random lists of blocks, the hardest case for attention, since no two rows have much in common. */
#ifndef CLI_BENCH_LISTS_H
#define CLI_BENCH_LISTS_H

#include "dit/dit.h"

/* Gives every layer of the run lists that keep that share of the key blocks; heads: of all samples together. */
nabla_status cli_bench_lists(nv_device *dev, nv_dit_run *run, int64_t heads, double density, uint64_t seed,
                             nv_error *err);

#endif

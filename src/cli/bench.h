/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmarks of `nabla bench`. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stdio.h>

#include "cli/list.h"
#include "cli/options.h"
#include "nabla/nabla.h"

typedef struct cli_bench_settings {
    const char *output;                                      /* CSV; NULL: none */
    const char *grids, *policies, *threads, *dtypes, *model; /* lists but for the last; NULL: the default */
    const char *size;                                        /* of a transformer */
    float density;                                           /* of random lists; 0: none */
    int32_t heads, head_dim, batch, repeat, backward, any_order, steps, guided, replay, layers, recompute, offload;
    cli_seed seed;
} cli_bench_settings;

int cli_bench_attention(const cli_common *common, const cli_bench_settings *s);
int cli_bench_model(const cli_common *common, const cli_bench_settings *s);
int cli_bench_dit(const cli_common *common, const cli_bench_settings *s);
int cli_bench_roofline(const cli_common *common, const cli_bench_settings *s);

/* Lists in full before anything runs: a slip in the last item must not show after an hour of the others. 0, or the exit
   code. */
int cli_bench_dtypes(const char *text, cli_list *dtypes);
int cli_bench_check_policies(nabla_context *ctx, const cli_list *policies);

/* The CSV, gathered in memory; cli_bench_close writes it unless `code` says that something failed. path NULL: there is
   none and `file` is NULL. Both return 0 or the exit code. */
typedef struct cli_bench_csv {
    FILE *file;
    char *text;
    size_t size;
} cli_bench_csv;
int cli_bench_open(const char *path, cli_bench_csv *csv);
int cli_bench_close(const char *path, cli_bench_csv *csv, int code);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the processor can do at most: the roof over the figures of the other benchmarks. */
#include <omp.h>
#include <stdio.h>

#include "cli/bench.h"
#include "cli/report.h"
#include "device/cpu/peak.h"

static void report(const nv_peak *peak, int32_t threads, FILE *csv, json_t *json) {
    const char *unit = peak->unit;
    const double all = peak->rate * threads;
    if (json)
        json_array_append_new(json, json_pack("{s:s, s:i, s:s, s:f, s:f}", "what", peak->name, "threads", threads,
                                              "unit", unit, "of_a_core", peak->rate, "of_all", all));
    else
        printf("%-14s %7d %12.1f %12.1f %8s\n", peak->name, threads, peak->rate, all, unit);
    if (csv) fprintf(csv, "%s,%d,%s,%.3f,%.3f\n", peak->name, threads, unit, peak->rate, all);
}

static int measure(const cli_list *threads, FILE *csv, json_t *json) {
    int64_t counts[CLI_LIST_MOST];
    for (int32_t i = 0; i < threads->count; i++)
        if (!cli_read_int(threads->item[i], 1, 4096, &counts[i]))
            return cli_misuse("bench", "--threads takes whole numbers from 1 to 4096, not '%s'", threads->item[i]);
    if (!json) printf("%-14s %7s %12s %12s %8s\n", "what", "threads", "of a core", "of all", "unit");
    if (csv) fprintf(csv, "what,threads,unit,of_a_core,of_all\n");
    for (int32_t i = 0; i < threads->count; i++) {
        nv_peak peaks[NV_PEAKS];
        const int32_t count = nv_cpu_peaks((int32_t)counts[i], peaks);
        for (int32_t j = 0; j < count; j++)
            report(&peaks[j], (int32_t)counts[i], csv, json);
    }
    return 0;
}

int cli_bench_roofline(const cli_common *common, const cli_bench_settings *s) {
    cli_bench_csv csv = {0};
    cli_list threads = {0};
    char text[32];
    snprintf(text, sizeof text, omp_get_num_procs() > 1 ? "1,%d" : "%d", omp_get_num_procs());
    int code = cli_list_read("bench", "threads", s->threads ? s->threads : text, &threads);
    if (!code) code = cli_bench_open(s->output, &csv);
    if (code) return code;
    json_t *json = common->json ? json_array() : NULL;
    code = cli_bench_close(s->output, &csv, measure(&threads, csv.file, json));
    if (!code && json) return cli_print_json("bench", json);
    json_decref(json);
    return code;
}

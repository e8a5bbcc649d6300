/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/profile.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/machine.h"
#include "cli/product_peak.h"
#include "cli/report.h"
#include "device/cpu/peak.h"

/* ------------------------------------------------------------------ rows */

void cli_profile_add(cli_profile *p, const char *part, const char *phase, double seconds, double flop,
                     nabla_dtype compute) {
    if (seconds <= 0 || p->count == CLI_PROFILE_ROWS) return;
    p->rows[p->count++] = (cli_profile_row){part, phase, seconds, flop, compute};
}

void cli_profile_add_part(cli_profile *p, const char *part, const nabla_video_part_time *t) {
    const double told_apart = t->products_s + t->attention_s + t->plan_s;
    cli_profile_add(p, part, NULL, t->seconds, t->product_flop + t->attention_flop, t->compute);
    if (told_apart <= 0) return;
    cli_profile_add(p, part, "products", t->products_s, t->product_flop, t->compute);
    cli_profile_add(p, part, "attention", t->attention_s, t->attention_flop, t->compute);
    cli_profile_add(p, part, "plan", t->plan_s, 0, t->compute);
    cli_profile_add(p, part, "norms and other", t->seconds - told_apart, 0, t->compute);
}

/* ------------------------------------------------------------------ the machine's peak */

/* A processor's is that of its best instruction, a GPU's that of a large product. */
static int find_peak(const char *verb, const cli_common *common, nabla_dtype dtype, double *peak) {
    nv_device_options options = {0};
    nv_device *device = NULL;
    nv_error err = {0};
    const int code = cli_device(verb, common, &options.device, &options.ordinal);
    if (code) return code;
    if (options.device == NABLA_CPU) {
        *peak = 1e9 * nv_cpu_peak(common->threads ? common->threads : cli_processors(), dtype);
        return 0;
    }
    nabla_status status = nv_device_create(&options, &device, &err);
    if (status == NABLA_OK) status = cli_product_peak(device, dtype, 0, peak, &err);
    nv_device_destroy(device);
    if (status != NABLA_OK) cli_note("%s: the machine's peak could not be measured: %s", verb, err.text);
    return 0; /* what was computed is told without it */
}

static int find_peaks(const char *verb, const cli_common *common, cli_profile *p) {
    int code = 0;
    for (int32_t i = 0; i < p->count && !code; i++) {
        double *peak = &p->peak[p->rows[i].compute == NABLA_BF16];
        if (p->rows[i].flop > 0 && *peak == 0) code = find_peak(verb, common, p->rows[i].compute, peak);
    }
    return code;
}

/* NaN where the row has no rate, or the machine's is not known. */
static double share_of_peak(const cli_profile *p, const cli_profile_row *r) {
    const double peak = p->peak[r->compute == NABLA_BF16];
    return r->flop > 0 && peak > 0 ? r->flop / r->seconds / peak : NAN;
}

/* ------------------------------------------------------------------ telling */

static json_t *row_json(const cli_profile *p, const cli_profile_row *r, double total) {
    return json_pack("{s:s, s:s?, s:f, s:f, s:o, s:s, s:o}", "part", r->part, "phase", r->phase, "seconds", r->seconds,
                     "share", r->seconds / total, "gflops",
                     cli_json_real(r->flop > 0 ? 1e-9 * r->flop / r->seconds : NAN), "dtype",
                     r->compute == NABLA_BF16 ? "bf16" : "fp32", "of_peak", cli_json_real(share_of_peak(p, r)));
}

static void print_row(const cli_profile *p, const cli_profile_row *r, double total) {
    char name[64], rate[32] = "", of_peak[64] = "";
    const double share = share_of_peak(p, r);
    snprintf(name, sizeof name, "%s%s", r->phase ? "  " : "", r->phase ? r->phase : r->part);
    if (r->flop > 0) snprintf(rate, sizeof rate, "%.1f", 1e-9 * r->flop / r->seconds);
    if (isfinite(share))
        snprintf(of_peak, sizeof of_peak, "%.0f %% of %.0f %s", 100 * share, 1e-9 * p->peak[r->compute == NABLA_BF16],
                 r->compute == NABLA_BF16 ? "bf16" : "fp32");
    cli_note("%-20s %10.3f %7.1f %%%*s%s%s", name, r->seconds, 100 * r->seconds / total, rate[0] ? 11 : 0, rate,
             of_peak[0] ? "  " : "", of_peak);
}

int cli_profile_report(const char *verb, const cli_common *common, cli_profile *p, json_t *figures) {
    double total = 0;
    if (!common->profile) return 0;
    const int code = find_peaks(verb, common, p);
    if (code) return code;
    for (int32_t i = 0; i < p->count; i++)
        if (!p->rows[i].phase) total += p->rows[i].seconds;
    if (!figures) cli_note("%-20s %10s %9s %10s  %s", "profile", "seconds", "share", "GFLOP/s", "of the peak");
    json_t *list = json_array();
    for (int32_t i = 0; i < p->count; i++)
        if (figures)
            json_array_append_new(list, row_json(p, &p->rows[i], total));
        else
            print_row(p, &p->rows[i], total);
    if (figures)
        json_object_set(figures, "profile", list);
    else
        cli_note("%-20s %10.3f", "together", total);
    json_decref(list);
    return 0;
}

int cli_profile_engine(const char *verb, const cli_common *common, cli_profile *p, const nabla_video_profile *engine,
                       json_t *figures) {
    static const nabla_video_part shown[NABLA_PARTS] = {NABLA_PART_LOAD,      NABLA_PART_TEXT,  NABLA_PART_TRANSFORMER,
                                                        NABLA_PART_SAMPLER,   NABLA_PART_VAE,   NABLA_PART_DATA,
                                                        NABLA_PART_OPTIMIZER, NABLA_PART_MEDIA, NABLA_PART_FILES,
                                                        NABLA_PART_WAIT,      NABLA_PART_OTHER};
    p->count = 0;
    for (int i = 0; i < NABLA_PARTS; i++)
        cli_profile_add_part(p, nabla_video_part_name(shown[i]), &engine->part[shown[i]]);
    return cli_profile_report(verb, common, p, figures);
}

int cli_profile_print_json(const char *verb, const cli_common *common, const nabla_video_profile *engine,
                           json_t *figures) {
    cli_profile p = {0};
    const int code = figures ? cli_profile_engine(verb, common, &p, engine, figures) : 0;
    if (!code) return cli_print_json(verb, figures);
    json_decref(figures);
    return code;
}

int cli_profile_print(const char *verb, const cli_common *common, const nabla_video_profile *engine) {
    cli_profile p = {0};
    return cli_profile_engine(verb, common, &p, engine, NULL);
}

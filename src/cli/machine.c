/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/report.h"

int cli_check_machine(const char *verb, const cli_common *common) {
    const char *device = common->device;
    int64_t ordinal;
    if (!device || strcmp(device, "cpu") == 0) return 0;
    if (strcmp(device, "cuda") == 0 ||
        (strncmp(device, "cuda:", 5) == 0 && cli_read_int(device + 5, 0, 1023, &ordinal)))
        return cli_fail(verb, "--device %s: this build has no CUDA; leave the flag out to run on the processor",
                        device);
    return cli_misuse(verb, "--device takes cpu, cuda or cuda:N, not '%s'", device);
}

nabla_context *cli_context(const char *verb, const cli_common *common, int *code) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *ctx = NULL;
    char message[512] = "";
    *code = cli_check_machine(verb, common);
    if (*code) return NULL;
    options.threads = common->threads;
    options.level = common->level;
    const nabla_status status = nabla_context_create(&options, &ctx, message, sizeof message);
    if (status != NABLA_OK) *code = cli_fail_status(verb, status, message);
    return ctx;
}

int cli_policy(const char *verb, nabla_context *ctx, const char *text, nabla_policy *out) {
    const nabla_status status = nabla_policy_parse(ctx, text, out);
    return status == NABLA_OK ? 0 : cli_fail_status(verb, status, nabla_context_message(ctx));
}

/* ------------------------------------------------------------------ memory, processors */

/* The number after `key` in a file of lines such as "key: N kB" or "key N", or 0. */
static double file_field(const char *path, const char *key) {
    char line[256];
    double value = 0;
    const size_t length = strlen(key);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0 && strchr(": ", line[length])) value = strtod(line + length + 1, NULL);
    fclose(file);
    return value;
}

/* The number that a file of one line holds, or 0 ("max" too, which means no limit). */
static double file_number(const char *path) {
    char line[64] = "";
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (!fgets(line, sizeof line, file)) line[0] = '\0';
    fclose(file);
    return strtod(line, NULL);
}

/* A container sees the whole machine in /proc/meminfo; its own limit is the control group's (version 2, then 1). File
   pages that nobody uses are given back under pressure, so they do not count as used. */
static double group_limit(double *used) {
    double limit = file_number("/sys/fs/cgroup/memory.max");
    *used = file_number("/sys/fs/cgroup/memory.current") - file_field("/sys/fs/cgroup/memory.stat", "inactive_file");
    if (limit == 0) {
        limit = file_number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        *used = file_number("/sys/fs/cgroup/memory/memory.usage_in_bytes") -
                file_field("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file");
    }
    return limit;
}

double cli_memory_total(void) {
    double used;
    const double total = 1024 * file_field("/proc/meminfo", "MemTotal"), limit = group_limit(&used);
    return limit > 0 && (limit < total || total == 0) ? limit : total;
}

double cli_memory_available(void) {
    double used;
    const double available = 1024 * file_field("/proc/meminfo", "MemAvailable"), limit = group_limit(&used);
    const double rest = limit > used ? limit - used : 0;
    return limit > 0 && (rest < available || available == 0) ? rest : available;
}

int cli_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}

const char *cli_processor_name(char *text, size_t size) {
    char line[512];
    text[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !text[0] && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = '\0';
        cli_escape(colon + 1 + strspn(colon + 1, " "), text, size);
    }
    if (file) fclose(file);
    return text;
}

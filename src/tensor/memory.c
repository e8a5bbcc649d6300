/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

double nv_memory_total(void) {
    double used;
    const double total = 1024 * file_field("/proc/meminfo", "MemTotal"), limit = group_limit(&used);
    return limit > 0 && (limit < total || total == 0) ? limit : total;
}

double nv_memory_peak(void) {
    return 1024 * file_field("/proc/self/status", "VmHWM");
}

double nv_memory_available(void) {
    double used;
    const double available = 1024 * file_field("/proc/meminfo", "MemAvailable"), limit = group_limit(&used);
    const double rest = limit > used ? limit - used : 0;
    return limit > 0 && (rest < available || available == 0) ? rest : available;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/report.h"
#include "tensor/memory.h"

int cli_device(const char *verb, const cli_common *common, nabla_device *device, int32_t *ordinal) {
    const char *name = common->device;
    int64_t number = 0;
    *device = NABLA_CPU;
    *ordinal = 0;
    if (!name || strcmp(name, "cpu") == 0) return 0;
    if (strcmp(name, "cuda") != 0 && (strncmp(name, "cuda:", 5) != 0 || !cli_read_int(name + 5, 0, 1023, &number)))
        return cli_misuse(verb, "--device takes cpu, cuda or cuda:N, not '%s'", name);
    *device = NABLA_CUDA;
    *ordinal = (int32_t)number;
    return 0;
}

int cli_check_device(const char *verb, const cli_common *common) {
    nabla_device_info info = {.size = sizeof info};
    nabla_device device;
    int32_t ordinal;
    char message[512] = "";
    const int code = cli_device(verb, common, &device, &ordinal);
    if (code || device == NABLA_CPU ||
        nabla_device_describe(device, ordinal, &info, message, sizeof message) == NABLA_OK)
        return code;
    return cli_fail(verb, "--device %s: %s; leave the flag out to run on the processor", common->device, message);
}

nabla_context *cli_context(const char *verb, const cli_common *common, int *code) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *ctx = NULL;
    char message[512] = "";
    *code = cli_device(verb, common, &options.device, &options.ordinal);
    if (*code) return NULL;
    if (options.device != NABLA_CPU && common->threads) {
        *code = cli_misuse(verb, "--threads is of the processor: leave it out with --device %s", common->device);
        return NULL;
    }
    options.threads = common->threads;
    options.level = common->level;
    *code = cli_check_device(verb, common);
    if (*code) return NULL;
    const nabla_status status = nabla_context_create(&options, &ctx, message, sizeof message);
    if (status != NABLA_OK) *code = cli_fail_status(verb, status, message);
    return ctx;
}

double cli_memory_available(const cli_common *common, const char **kind) {
    nabla_device_info info = {.size = sizeof info};
    nabla_device device;
    int32_t ordinal;
    *kind = "memory";
    if (cli_device("", common, &device, &ordinal) || device == NABLA_CPU) return nv_memory_available();
    *kind = "GPU memory";
    return nabla_device_describe(device, ordinal, &info, NULL, 0) == NABLA_OK ? (double)info.memory_free : 0;
}

int cli_policy(const char *verb, nabla_context *ctx, const char *text, nabla_policy *out) {
    const nabla_status status = nabla_policy_parse(ctx, text, out);
    return status == NABLA_OK ? 0 : cli_fail_status(verb, status, nabla_context_message(ctx));
}

/* ------------------------------------------------------------------ processors */

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

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/machine.h"

#include <sched.h>
#include <stdio.h>
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

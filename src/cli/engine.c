/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/machine.h"
#include "cli/report.h"

int cli_engine_machine(const char *verb, const cli_common *common, cli_progress *progress, nabla_video_machine *out) {
    *out = nabla_video_machine_default();
    out->threads = common->threads;
    out->level = common->level;
    if (progress) out->progress = cli_progress_report;
    out->user = progress;
    if (common->dtype) out->compute = strcmp(common->dtype, "fp32") == 0 ? NABLA_FP32 : NABLA_BF16;
    const int code = cli_device(verb, common, &out->device, &out->ordinal);
    return code ? code : cli_check_device(verb, common);
}

static int holds_model(const char *folder) {
    char path[4200];
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    return access(path, R_OK) == 0;
}

/* ../share/nabla/models/demo as seen from the program's folder; "" where /proc does not tell. */
static void installed_demo(char *path, size_t size) {
    char program[4000];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    path[0] = '\0';
    if (length <= 0) return;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (!slash) return;
    *slash = '\0';
    slash = strrchr(program, '/');
    if (!slash) return;
    *slash = '\0';
    snprintf(path, size, "%s/share/nabla/models/demo", program);
}

int cli_engine_model(const char *verb, const char *given, char *path, size_t size) {
    char installed[4096];
    if (given) {
        if (snprintf(path, size, "%s", given) >= (int)size) return cli_fail(verb, "the path of the model is too long");
        if (access(path, R_OK) == 0) return 0;
        return cli_fail(verb, "'%s' is not a model's folder: %s", given, strerror(errno));
    }
    installed_demo(installed, sizeof installed);
    snprintf(path, size, "%s", installed);
    if (holds_model(path)) return 0;
    snprintf(path, size, "%s", NABLA_SOURCE_MODELS "/demo");
    if (holds_model(path)) return 0;
    return cli_fail(verb, "the bundled model is neither in %s nor in %s: name a model's folder with --model", installed,
                    path);
}

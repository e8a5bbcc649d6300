/* SPDX-License-Identifier: Apache-2.0 */
/* The list of cases that every device is held to. */
#include "ops_case.h"
#include <stdio.h>
#include <string.h>

typedef void (*ops_fn)(ops_case *c);

static const struct {
    const char *name;
    ops_fn run;
} operations[] = {
    {"linear", ops_linear},       {"activations", ops_activations},
    {"seam", ops_seam},           {"qk_norm", ops_qk_norm},
    {"plain", ops_plain},         {"ends", ops_ends},
    {"optimizer", ops_optimizer}, {"noise", ops_noise},
    {"frames", ops_frames},       {"conv", ops_conv},
    {"gate", ops_gate},           {"softmax", ops_softmax},
    {"solve", ops_solve},
};

/* Rows, columns, groups: whole vectors and tails, one row, several chunks a group, weight gradients in two parts and a
   rest, rows wider than a warp of a GPU that fill its warps or do not. */
static const int64_t shapes[][3] = {{1, 16, 1},   {37, 24, 1},   {6, 13, 3},   {70, 192, 2}, {600, 48, 3},
                                    {301, 72, 1}, {4099, 24, 1}, {5, 1544, 1}, {4, 1030, 2}, {3, 1024, 3}};
static const int64_t demo[3] = {4 * 4608, 192, 4};

static int run_shape(nv_device *dev, nabla_dtype dtype, const int64_t shape[3], int perf) {
    int failures = 0;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        ops_case c = {.dev = dev, .dtype = dtype, .rows = shape[0], .cols = shape[1], .groups = shape[2], .perf = perf};
        snprintf(c.text, sizeof c.text, "%s, %s, %d threads, %s, %lld x %lld in %lld groups", operations[i].name,
                 dev->level, (int)dev->threads, dtype == NABLA_BF16 ? "bf16" : "fp32", (long long)shape[0],
                 (long long)shape[1], (long long)shape[2]);
        operations[i].run(&c);
        ops_finish(&c);
        failures += c.failures;
    }
    return failures;
}

int ops_run_all(nv_device *dev, int perf) {
    int failures = 0;
    for (int dtype = 0; dtype < 2; dtype++) {
        if (perf) failures += run_shape(dev, dtype ? NABLA_BF16 : NABLA_FP32, demo, 1);
        for (size_t i = 0; !perf && i < sizeof shapes / sizeof *shapes; i++)
            failures += run_shape(dev, dtype ? NABLA_BF16 : NABLA_FP32, shapes[i], 0);
    }
    return failures;
}

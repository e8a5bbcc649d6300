/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds a device's operations to plain fp64 loops, forward and backward: one list of cases for every level, dtype and
 * number of threads.
 *
 *     check_ops          test
 *     check_ops perf     CSV of the least of twenty times at the demo model's training shape: milliseconds, nanoseconds
 *                        a row and thread, GB/s (products: GFLOP/s)
 */
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
    {"optimizer", ops_optimizer}, {"frames", ops_frames},
    {"gate", ops_gate},           {"softmax", ops_softmax},
};

/* Rows, columns, groups: whole vectors and tails, one row, several chunks a group, weight gradients in two parts and a
   rest. */
static const int64_t shapes[][3] = {{1, 16, 1},   {37, 24, 1},  {6, 13, 3},   {70, 192, 2},
                                    {600, 48, 3}, {301, 72, 1}, {4099, 24, 1}};

static int run_all(nv_device *dev, nabla_dtype dtype, const int64_t shape[3], int perf) {
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

static int with_device(const char *level, int32_t threads, int perf) {
    const nv_device_options options = {.threads = threads, .level = level};
    const int64_t demo[3] = {4 * 4608, 192, 4};
    nv_device *dev;
    nv_error err = {0};
    int failures = 0;
    if (nv_device_create(&options, &dev, &err) != NABLA_OK) {
        fprintf(stderr, "check_ops: %s\n", err.text);
        return 1;
    }
    for (int dtype = 0; dtype < 2; dtype++) {
        if (perf) failures += run_all(dev, dtype ? NABLA_BF16 : NABLA_FP32, demo, 1);
        for (size_t i = 0; !perf && i < sizeof shapes / sizeof *shapes; i++)
            failures += run_all(dev, dtype ? NABLA_BF16 : NABLA_FP32, shapes[i], 0);
    }
    nv_device_destroy(dev);
    return failures;
}

int main(int argc, char **argv) {
    const int perf = argc > 1 && strcmp(argv[1], "perf") == 0;
    int failures = 0;
    if (perf) {
        printf("operation,dtype,level,rows,cols,threads,ms,ns_row_thread,gb_s\n");
        return with_device(NULL, 1, 1);
    }
    for (int i = 0; nabla_level_name(i); i++)
        for (int32_t threads = 1; threads <= 3; threads += 2)
            failures += with_device(nabla_level_name(i), threads, 0);
    printf("%d failures\n", failures);
    return failures != 0;
}

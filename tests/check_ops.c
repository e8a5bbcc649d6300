/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds a device's operations to plain fp64 loops, forward and backward: one list of cases for every level, dtype and
 * number of threads.
 *
 *     check_ops          test; with NABLA_TEST_DEVICE=cuda in the environment, of the GPU
 *     check_ops perf     CSV of the least of twenty times at the demo model's training shape: milliseconds, nanoseconds
 *                        a row and thread, GB/s (products: GFLOP/s)
 */
#include "device.h"
#include "ops_case.h"
#include <stdio.h>
#include <string.h>

static int with_device(const char *level, int32_t threads, int perf) {
    nv_device *dev;
    nv_error err = {0};
    if (test_device_create(threads, level, &dev, &err) != NABLA_OK) {
        fprintf(stderr, "check_ops: %s\n", err.text);
        return 1;
    }
    const int failures = ops_run_all(dev, perf);
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
    if (test_on_gpu()) failures = with_device(NULL, 0, 0);
    for (int i = 0; !test_on_gpu() && nabla_level_name(i); i++)
        for (int32_t threads = 1; threads <= 3; threads += 2)
            failures += with_device(nabla_level_name(i), threads, 0);
    printf("%d failures\n", failures);
    return failures != 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* bench_peak [THREADS]: the same as `nabla bench roofline`, for builds without the engine. CSV: what,threads,rate. */
#include "device/cpu/peak.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    nv_peak peaks[NV_PEAKS];
    if (threads < 1) {
        fprintf(stderr, "bench_peak: '%s' threads; use a number from 1 up\n", argv[1]);
        return 2;
    }
    const int32_t count = nv_cpu_peaks(threads, peaks);
    printf("what,threads,rate\n");
    for (int32_t i = 0; i < count; i++)
        printf("%s,%d,%.1f\n", peaks[i].name, threads, peaks[i].rate);
    return 0;
}

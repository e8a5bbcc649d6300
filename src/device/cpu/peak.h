/* SPDX-License-Identifier: Apache-2.0 */
/* What the processor can do at most, measured: the roof that kernels are held against. */
#ifndef NV_PEAK_H
#define NV_PEAK_H

#include <stdint.h>

#include "nabla/nabla.h"

typedef struct nv_peak {
    const char *name; /* of the instruction, or "read" (from memory), "read_l2", "read_l3" */
    double rate;      /* a core's share */
    const char *unit; /* "GFLOP/s", of bytes "GOP/s"; of what is read "GB/s" */
} nv_peak;

enum { NV_PEAKS = 9 };

/* GFLOP/s of `threads` cores with the best instruction for that dtype, measured in a second or so; 0: not known. */
double nv_cpu_peak(int32_t threads, nabla_dtype dtype);

/* Runs independent chains of each instruction that this machine has on `threads` cores at once, and reads caches
   and memory; returns how many peaks there are. Reading takes 64 MB a thread and is left out where there is no memory
   for it; caches, where the system does not tell their sizes. */
int32_t nv_cpu_peaks(int32_t threads, nv_peak out[NV_PEAKS]);

#endif

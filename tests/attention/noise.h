/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in [-1, 1) for tensors of tests, the same everywhere. */
#ifndef NOISE_H
#define NOISE_H

#include <stdlib.h>

static inline float *noise(size_t n, unsigned seed) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / (float)(1u << 23) - 1.0f;
    }
    return x;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor that training changes, wherever it comes from: the transformer's parameters, the word table. */
#ifndef NV_TRAINABLE_H
#define NV_TRAINABLE_H

#include <stddef.h>
#include <stdint.h>

typedef struct nv_trainable {
    const char *name;
    int32_t rank;
    int64_t shape[5];
    size_t count;
    float *value, *grad; /* fp32, in the device's memory */
    int32_t decay;       /* 1: weight decay applies */
} nv_trainable;

#endif

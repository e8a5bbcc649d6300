/* SPDX-License-Identifier: Apache-2.0 */
/* Where an encoder's tensors are. */
#ifndef NV_UMT5_WEIGHTS_H
#define NV_UMT5_WEIGHTS_H

#include "text/umt5.h"
#include "weights/set.h"

typedef struct nv_umt5_layer {
    const nv_st_entry *norm1, *q, *k, *v, *o, *norm2, *gate, *up, *down, *bias;
} nv_umt5_layer;

struct nv_umt5 {
    nv_umt5_config config;
    nv_weights *files;
    const nv_st_entry *embedding, *norm;
    nv_umt5_layer *layers;
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 3 x 3 convolutions of stride 1 by Winograd's minimal filtering, F(2 x 2, 3 x 3) of Lavin and Gray (arXiv 1509.09308):
 * tiles of 4 x 4 pixels, their 16 sums of pixels times the weights' 16 sums over the channels, and the products' sums
 * as 2 x 2 pixels: 16 multiplications where the definition has 36. Sums of pixels and of weights are rounded to the
 * weights' dtype; the rest is fp32.
 */
#ifndef NV_WINOGRAD_H
#define NV_WINOGRAD_H

#include "device/device.h"

enum {
    NV_WINOGRAD_SPOTS = 16, /* sums of a tile */
    NV_WINOGRAD_ROWS = 8,   /* tiles that are multiplied at once */
    NV_WINOGRAD_PANEL = 48, /* output channels that are: a kernel's sums in registers */
    NV_WINOGRAD_PAD = 64    /* bytes between spots, lest all of a tile's fall into one set of a cache */
};

typedef struct nv_winograd_job {
    int32_t in, out, height, width, frames;
    int64_t tiles; /* of a task, a multiple of NV_WINOGRAD_ROWS */
    const void *x[NV_CONV_FRAMES];
    const void *u[NV_CONV_FRAMES]; /* [16][panel][in][channel of the panel]; see winograd.c's place */
    const float *bias;
    float *y;
    int32_t add;
} nv_winograd_job;

/* By dtype, fp32 then bf16: output of tiles [first, last), row by row of tiles, with nv_winograd_scratch's bytes. NULL
   where the level has no kernel. */
typedef void (*nv_winograd_kernel)(const nv_winograd_job *j, int64_t first, int64_t last, void *scratch);
typedef struct nv_winograd_kernels {
    nv_winograd_kernel tiles[2];
} nv_winograd_kernels;
#ifdef NV_X86
extern const nv_winograd_kernels nv_winograd_avx512, nv_winograd_avx512bf16;
#endif

/* Bytes from a spot to the next of a task's sums of pixels and of its products. */
static inline size_t nv_winograd_inputs(const nv_winograd_job *j, size_t size) {
    return (size_t)(j->tiles * j->frames * j->in) * size + NV_WINOGRAD_PAD;
}
static inline size_t nv_winograd_outputs(const nv_winograd_job *j) {
    return (size_t)(j->tiles * NV_WINOGRAD_PANEL) * sizeof(float) + NV_WINOGRAD_PAD;
}

struct nv_cpu;
/* The kernel for these weights on this device, NULL where another way is faster or none is there. */
nv_winograd_kernel nv_winograd_find(const struct nv_cpu *cpu, const nv_conv_shape *shape, nabla_dtype dtype);
size_t nv_winograd_weights_bytes(const nv_conv_shape *shape, nabla_dtype dtype);
/* values: [out, 3, 3, in] */
void nv_winograd_weights(const nv_conv_shape *shape, nabla_dtype dtype, const float *values, void *u);
/* All of a frame; j->tiles is chosen here. */
nabla_status nv_winograd_run(struct nv_cpu *cpu, nv_winograd_kernel kernel, nabla_dtype dtype, nv_winograd_job *j,
                             nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weights of blocks in the host's memory, for a device that cannot hold them all: two blocks at a time are on the
 * device, block i in slot i % 2, where its layers' views point for good. While one block works the next one comes into
 * the other slot (device.h: fetch, await), and behind the last block of a pass the first two come again. All of it is
 * queued; nothing here makes the host wait. With a model that is not offloaded none of these does anything.
 */
#ifndef NV_DIT_OFFLOAD_H
#define NV_DIT_OFFLOAD_H

#include "dit/dit.h"
#include "tensor/arena.h"

enum { NV_DIT_SLOTS = NV_FETCH_LANES };

typedef struct nv_dit_offload {
    size_t bytes;                  /* of a block; 0: the model is not offloaded */
    unsigned char *host;           /* [layers][bytes] */
    unsigned char *slots;          /* [NV_DIT_SLOTS][bytes] */
    int32_t held[NV_DIT_SLOTS];    /* whose weights are in a slot, or on their way; -1: nobody's */
    int32_t changed[NV_DIT_SLOTS]; /* the host has not got them as they are now */
} nv_dit_offload;

/* The host's memory, and empty slots. bytes and slots are set. */
nabla_status nv_dit_offload_open(nv_dit *m, nv_error *err);
/* Before the device's memory is released: copies into it may be under way. */
void nv_dit_offload_close(nv_dit *m);

/* What is queued from now on finds the block's weights in its slot. */
void nv_dit_bring(nv_dit *m, int32_t layer);
/* The pass is done with the block: its slot's next one may come. */
void nv_dit_leave(nv_dit *m, int32_t layer);

/* Before a parameter is read or changed where it is kept on the device: block by block, in any order. */
void nv_dit_reach(nv_dit *m, const nv_parameter *p, int change);
/* What was changed is taken to the host. */
void nv_dit_settle(nv_dit *m);

#endif

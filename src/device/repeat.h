/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that is done again and again at the same places in memory, such as a step of sampling or of training: when it is
 * queued plainly, and when by a replay of its recording.
 *
 * The first time takes memory and loads kernels; the second tells how long the work takes and what its time goes to;
 * from the third on it is replayed where that is of use. Where a replay saves anything the work is short: a GPU takes a
 * launch in some microseconds, so a step of 40 layers with 30 launches each costs the host 5 ms, and one that takes ten
 * times as long never waits for it. Plain work in turn can be stopped between two layers; a replay cannot.
 */
#ifndef NV_REPEAT_H
#define NV_REPEAT_H

#include "device/device.h"

#define NV_REPEAT_SHORT_S 0.05 /* what nobody minds waiting for */

typedef enum nv_replay {
    NV_REPLAY_SHORT, /* work that takes less than that */
    NV_REPLAY_ALWAYS,
    NV_REPLAY_NEVER
} nv_replay;

typedef struct nv_repeat {
    nv_device *device;
    nv_replay when;
    int32_t times; /* that it was done plainly since it began or changed */
    double begun, seconds;
    nv_clock clock;          /* with seconds: of the last plain time */
    nv_recording *recording; /* NULL: not yet, or not at all */
} nv_repeat;

nv_repeat nv_repeat_of(nv_device *device, nv_replay when);
/* Queues the work, and sets the device's clock back first. */
nabla_status nv_repeat_queue(nv_repeat *r, nv_work work, void *user, nv_error *err);
/* After whoever queued it has waited. */
void nv_repeat_done(nv_repeat *r);
/* From now on the work is another. Also what ends a repeat. */
void nv_repeat_forget(nv_repeat *r);
/* Whether the next time will be a replay, within which nobody is asked whether to stop. */
int nv_repeat_replays(const nv_repeat *r);

#endif

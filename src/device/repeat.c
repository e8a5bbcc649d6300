/* SPDX-License-Identifier: Apache-2.0 */
#include "device/repeat.h"

enum { PLAIN_TIMES = 2 };

nv_repeat nv_repeat_of(nv_device *device, nv_replay when) {
    return (nv_repeat){.device = device, .when = when};
}

void nv_repeat_forget(nv_repeat *r) {
    if (r->recording) r->device->ops->recording_release(r->device, r->recording);
    r->recording = NULL;
    r->times = 0;
}

int nv_repeat_replays(const nv_repeat *r) {
    if (!r->device->ops->record || r->when == NV_REPLAY_NEVER) return 0;
    if (r->recording) return r->device->ops->replays(r->device, r->recording);
    return r->times >= PLAIN_TIMES && (r->when == NV_REPLAY_ALWAYS || r->seconds < NV_REPEAT_SHORT_S);
}

nabla_status nv_repeat_queue(nv_repeat *r, nv_work work, void *user, nv_error *err) {
    const nv_device_ops *ops = r->device->ops;
    const int replays = nv_repeat_replays(r);
    if (r->recording && !replays) nv_repeat_forget(r); /* its memory has moved */
    if (replays && !r->recording) NV_TRY(ops->record(r->device, work, user, &r->clock, &r->recording, err));
    ops->clock_reset(r->device);
    r->begun = nv_now();
    return replays ? ops->replay(r->device, r->recording, err) : work(user, err);
}

void nv_repeat_done(nv_repeat *r) {
    if (r->recording) return;
    r->times++;
    r->seconds = nv_now() - r->begun;
    r->device->ops->clock_read(r->device, &r->clock);
}

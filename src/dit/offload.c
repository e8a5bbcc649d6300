/* SPDX-License-Identifier: Apache-2.0 */
#include "dit/offload.h"

#include "dit/model.h"

static unsigned char *home_of(const nv_dit_offload *o, int32_t layer) {
    return o->host + (size_t)layer * o->bytes;
}

static unsigned char *slot_of(const nv_dit_offload *o, int32_t slot) {
    return o->slots + (size_t)slot * o->bytes;
}

nabla_status nv_dit_offload_open(nv_dit *m, nv_error *err) {
    nv_dit_offload *o = &m->offload;
    void *host;
    for (int32_t slot = 0; slot < NV_DIT_SLOTS; slot++)
        o->held[slot] = -1;
    NV_TRY(m->device->ops->host_allocate(m->device, (size_t)m->config.layers * o->bytes, &host, err));
    o->host = host;
    return NABLA_OK;
}

void nv_dit_offload_close(nv_dit *m) {
    if (m->offload.host) m->device->ops->host_release(m->device, m->offload.host);
    m->offload.host = NULL;
}

/* What a slot holds goes home where it was changed. */
static void send_home(nv_dit *m, int32_t slot) {
    nv_dit_offload *o = &m->offload;
    if (o->changed[slot]) m->device->ops->stow(m->device, home_of(o, o->held[slot]), slot_of(o, slot), o->bytes);
    o->changed[slot] = 0;
}

/* Unless it is there. */
static void let_in(nv_dit *m, int32_t layer) {
    nv_dit_offload *o = &m->offload;
    const int32_t slot = layer % NV_DIT_SLOTS;
    if (o->held[slot] == layer) return;
    send_home(m, slot);
    m->device->ops->fetch(m->device, slot, slot_of(o, slot), home_of(o, layer), o->bytes);
    o->held[slot] = layer;
}

void nv_dit_bring(nv_dit *m, int32_t layer) {
    if (!m->offload.bytes) return;
    let_in(m, layer);
    const nv_phase before = m->device->ops->phase(m->device, NV_WEIGHTS);
    m->device->ops->await(m->device, layer % NV_DIT_SLOTS);
    m->device->ops->phase(m->device, before);
}

void nv_dit_leave(nv_dit *m, int32_t layer) {
    if (!m->offload.bytes) return;
    const int32_t next = layer + NV_DIT_SLOTS;
    let_in(m, next < m->config.layers ? next : layer % NV_DIT_SLOTS);
}

void nv_dit_reach(nv_dit *m, const nv_parameter *p, int change) {
    if (!m->offload.bytes || p->layer < 0) return;
    nv_dit_bring(m, p->layer);
    m->offload.changed[p->layer % NV_DIT_SLOTS] |= change;
}

void nv_dit_settle(nv_dit *m) {
    for (int32_t slot = 0; slot < NV_DIT_SLOTS; slot++)
        send_home(m, slot);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/profile.h"

#include "video/report.h"

const char *nabla_video_part_name(nabla_video_part part) {
    static const char *const names[NABLA_PARTS] = {
        [NABLA_PART_OTHER] = "other",       [NABLA_PART_LOAD] = "load",
        [NABLA_PART_TEXT] = "text encoder", [NABLA_PART_TRANSFORMER] = "transformer",
        [NABLA_PART_SAMPLER] = "sampler",   [NABLA_PART_OPTIMIZER] = "optimizer",
        [NABLA_PART_VAE] = "VAE",           [NABLA_PART_DATA] = "data",
        [NABLA_PART_MEDIA] = "media",       [NABLA_PART_FILES] = "files",
        [NABLA_PART_WAIT] = "waits"};
    return (int)part >= 0 && part < NABLA_PARTS ? names[part] : NULL;
}

nabla_status nv_profile_start(const nabla_video_machine *machine, nabla_video_error *err) {
    nabla_video_profile *p = machine->profile;
    if (!p) return NABLA_OK;
    if (p->size != sizeof *p) return nv_report_result_version(err, "nabla_video_profile");
    p->now = NABLA_PART_LOAD;
    p->since = nv_now();
    return NABLA_OK;
}

nabla_video_part nv_profile_enter(const nabla_video_machine *machine, nabla_video_part part) {
    nabla_video_profile *p = machine->profile;
    if (!p) return part;
    const nabla_video_part before = p->now;
    const double now = nv_now();
    p->part[before].seconds += now - p->since;
    p->since = now;
    p->now = part;
    return before;
}

void nv_profile_stop(const nabla_video_machine *machine) {
    nv_profile_enter(machine, NABLA_PART_OTHER);
}

void nv_profile_begin(const nabla_video_machine *machine, nv_device *device) {
    if (machine->profile) device->ops->clock_reset(device);
}

void nv_profile_end(const nabla_video_machine *machine, nv_device *device, nabla_dtype compute) {
    nabla_video_profile *p = machine->profile;
    nv_clock clock;
    if (!p) return;
    device->ops->clock_read(device, &clock);
    nabla_video_part_time *t = &p->part[p->now];
    t->products_s += clock.seconds[NV_PRODUCTS];
    t->attention_s += clock.seconds[NV_ATTENTION];
    t->plan_s += clock.seconds[NV_PLAN];
    t->product_flop += clock.product_flop;
    t->compute = compute;
}

void nv_profile_pass(const nabla_video_machine *machine, const nv_dit_stats *s) {
    nabla_video_profile *p = machine->profile;
    if (!p) return;
    const double seconds = s->plan_s + s->attention_s + s->products_s + s->other_s;
    nabla_video_part_time *t = &p->part[NABLA_PART_TRANSFORMER];
    p->part[p->now].seconds -= seconds + s->weights_s;
    p->part[NABLA_PART_WAIT].seconds += s->weights_s;
    t->seconds += seconds;
    t->products_s += s->products_s;
    t->attention_s += s->attention_s;
    t->plan_s += s->plan_s;
    t->product_flop += s->product_flop;
    t->attention_flop += s->attention_flop;
    t->compute = machine->compute;
}

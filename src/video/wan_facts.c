/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "dit/dit.h"
#include "text/tokenizer.h"
#include "video/machine.h"
#include "video/wan_folder.h"

static void add_dtype(nv_wan_facts *facts, nv_st_dtype dtype) {
    const char *name = nv_st_dtype_name(dtype);
    const size_t at = strlen(facts->dtypes), length = strlen(name);
    for (const char *found = facts->dtypes; (found = strstr(found, name)); found += length)
        if ((found == facts->dtypes || found[-1] == ' ') && (found[length] == ',' || found[length] == '\0')) return;
    snprintf(facts->dtypes + at, sizeof facts->dtypes - at, "%s%s", at ? ", " : "", name);
}

static void count(const nv_weights *w, nv_wan_facts *facts) {
    const size_t skip = strlen(facts->names.prefix);
    facts->files = (int64_t)nv_weights_files(w);
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const nv_st_entry *e = nv_weights_at(w, i);
        if (strncmp(e->name, facts->names.prefix, skip) != 0) continue;
        facts->parameters += (int64_t)(e->bytes / nv_st_dtype_size(e->dtype));
        facts->bytes += (double)e->bytes;
        add_dtype(facts, e->dtype);
    }
}

/* ------------------------------------------------------------------ sizes */

static int32_t nearest(int32_t size, int32_t step) {
    const int32_t steps = (int32_t)(((int64_t)size + step / 2) / step);
    return (steps > 0 ? steps : 1) * step;
}

nabla_status nv_wan_shape(const nv_dit_config *config, int32_t space, int32_t time, const nv_clip_size *clip,
                          nv_dit_shape *shape, nv_error *err) {
    const int32_t rows = space * config->patch[1], columns = space * config->patch[2];
    const int32_t below = (clip->frames - 1) / time * time + 1;
    if (clip->frames < 1 || (clip->frames - 1) % time != 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d frames: a clip has %dn + 1 of them: choose %d or %d",
                       clip->frames, time, clip->frames < 1 ? 1 : below, clip->frames < 1 ? 1 + time : below + time);
    if (clip->width < 1 || clip->height < 1 || clip->width % columns != 0 || clip->height % rows != 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "size %dx%d: width must be a multiple of %d and height of %d: the nearest is %dx%d", clip->width,
                       clip->height, columns, rows, nearest(clip->width, columns), nearest(clip->height, rows));
    *shape = (nv_dit_shape){.batch = 1,
                            .frames = (clip->frames - 1) / time + 1,
                            .height = clip->height / space,
                            .width = clip->width / space,
                            .text_length = NV_TEXT_LENGTH,
                            .tile = {1, 8, 8},
                            .rope_scale = {1, 1, 1}};
    return NABLA_OK;
}

static nabla_status estimate(nv_wan_facts *facts, const nv_clip_size *clip, const nabla_video_machine *machine,
                             nv_error *err) {
    nv_dit_shape shape;
    nv_device *device;
    if (nv_wan_shape(&facts->config, NV_WAN_SPACE, NV_WAN_TIME, clip, &shape, NULL) != NABLA_OK) return NABLA_OK;
    NV_TRY(nv_machine_open(machine, &device, err));
    nv_dit_needs needs = {0}, offloaded = {0};
    nabla_status status = nv_dit_estimate(device, &facts->config, machine->compute, NV_DIT_INFER, &shape, &needs, err);
    if (status == NABLA_OK)
        status = nv_dit_estimate(device, &facts->config, machine->compute, NV_DIT_OFFLOAD, &shape, &offloaded, err);
    facts->offloaded_memory = offloaded.model;
    facts->host_memory = offloaded.host;
    facts->model_memory = needs.model;
    facts->run_memory = needs.run;
    facts->sized = status == NABLA_OK;
    nv_device_destroy(device);
    return status;
}

nabla_status nv_wan_describe(const nv_wan_folder *folder, const nv_clip_size *clip, const nabla_video_machine *machine,
                             nv_wan_facts *out, nv_error *err) {
    nv_weights *w;
    *out = (nv_wan_facts){0};
    NV_TRY(nv_wan_open_transformer(folder, &w, &out->names, &out->config, err));
    nabla_status status = nv_dit_check(&out->config, w, &out->names, err);
    if (status == NABLA_OK) count(w, out);
    nv_weights_close(w);
    return status == NABLA_OK ? estimate(out, clip, machine, err) : status;
}

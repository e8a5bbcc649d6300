/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "device/device.h"
#include "dit/dit.h"
#include "video/wan_folder.h"

/* The VAE's: pixels a latent's side, frames a latent frame after the first; and the rows of text that Wan pads to. */
enum { SPACE_STRIDE = 8, TIME_STRIDE = 4, TEXT_LENGTH = 512 };

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

static int fits(const nv_dit_config *c, const nv_dit_shape *s, int32_t width, int32_t height, int32_t frames) {
    return width % SPACE_STRIDE == 0 && height % SPACE_STRIDE == 0 && (frames - 1) % TIME_STRIDE == 0 &&
           s->width % c->patch[2] == 0 && s->height % c->patch[1] == 0 && s->frames % c->patch[0] == 0;
}

static nabla_status estimate(nv_wan_facts *facts, int32_t width, int32_t height, int32_t frames, nabla_dtype compute,
                             nv_error *err) {
    nv_dit_shape shape = {.batch = 1,
                          .frames = (frames - 1) / TIME_STRIDE + 1,
                          .height = height / SPACE_STRIDE,
                          .width = width / SPACE_STRIDE,
                          .text_length = TEXT_LENGTH,
                          .tile = {1, 8, 8},
                          .rope_scale = {1, 1, 1}};
    nv_device *device;
    if (!fits(&facts->config, &shape, width, height, frames)) return NABLA_OK;
    NV_TRY(nv_device_create(NULL, &device, err));
    nabla_status status =
        nv_dit_estimate(device, &facts->config, compute, &shape, &facts->model_memory, &facts->run_memory, err);
    facts->sized = status == NABLA_OK;
    nv_device_destroy(device);
    return status;
}

nabla_status nv_wan_describe(const nv_wan_folder *folder, int32_t width, int32_t height, int32_t frames,
                             nabla_dtype compute, nv_wan_facts *out, nv_error *err) {
    nv_weights *w;
    *out = (nv_wan_facts){0};
    NV_TRY(nv_wan_open_transformer(folder, &w, &out->names, &out->config, err));
    nabla_status status = nv_dit_check(&out->config, w, &out->names, err);
    if (status == NABLA_OK) count(w, out);
    nv_weights_close(w);
    return status == NABLA_OK ? estimate(out, width, height, frames, compute, err) : status;
}

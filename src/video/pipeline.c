/* SPDX-License-Identifier: Apache-2.0 */
#include "video/pipeline.h"

#include <string.h>

#include "video/files.h"

enum { LARGE_AREA = 900000 }; /* pixels, from 1280x704 on: "720p" in its many proportions */

/* Whether the folder says that `nabla train` wrote it. What cannot be read is Wan's to refuse. */
static int works_on_pixels(const char *model) {
    char path[NV_PATH_SIZE];
    nv_model_index index;
    return model && nv_path_in(path, model, "model_index.json") &&
           nv_config_read_index(path, &index, NULL) == NABLA_OK && strcmp(index.kind, NV_KIND_CLIP) == 0;
}

nabla_status nv_pipeline_open(const nabla_generate_options *o, const nabla_video_machine *machine, nv_pipeline **out,
                              nv_error *err) {
    *out = NULL;
    return works_on_pixels(o->model) ? nv_pixel_pipeline_open(o, machine, out, err)
                                     : nv_wan_pipeline_open(o, machine, out, err);
}

void nv_pipeline_close(nv_pipeline *p) {
    if (!p) return;
    nv_pipeline_unload(p);
    p->ops->close(p);
}

void nv_pipeline_unload(nv_pipeline *p) {
    if (!p->dit) return;
    nv_dit_destroy(p->dit);
    p->dit = NULL;
    p->device->ops->trim(p->device); /* 200 MB at 480p, which a decoder can use */
}

/* Larger clips need more noise to lose their outlines: 5 for 720p, 3 for 480p, as Wan2.1's authors advise. */
float nv_pipeline_shift(const nv_pipeline *p, const nv_clip_size *clip) {
    if (p->index.shift > 0.0f) return p->index.shift;
    return (int64_t)clip->width * clip->height >= LARGE_AREA ? 5.0f : 3.0f;
}

int nv_pipeline_tell(const nv_pipeline *p, const char *phase, int64_t done, int64_t total, const char *note) {
    return p->machine->progress ? p->machine->progress(p->machine->user, phase, done, total, note) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/latent_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "video/limits.h"

nabla_status nv_latent_write(const char *path, const nv_latent *latent, nv_error *err) {
    char fps[16];
    const char *const metadata[] = {"prompt", latent->prompt, "comment", latent->comment, "fps", fps};
    nv_st_entry entry = {.name = "latent", .dtype = NV_ST_F32, .rank = 4, .data = latent->values};
    entry.bytes = sizeof *latent->values;
    for (int i = 0; i < 4; i++)
        entry.bytes *= (size_t)(entry.shape[i] = latent->shape[i]);
    snprintf(fps, sizeof fps, "%" PRId32, latent->fps);
    return nv_st_write(path, &entry, 1, metadata, 3, err);
}

static nabla_status check_shape(const nv_st_entry *e, const char *path, nv_error *err) {
    if (!e || e->dtype != NV_ST_F32 || e->rank != 4 || e->bytes == 0)
        return nv_fail(err, NABLA_CORRUPT, "%s must hold a tensor \"latent\" of fp32 [channels, frames, height, width]",
                       path);
    for (int i = 0; i < 4; i++)
        if (e->shape[i] > NV_MOST_SIDE)
            return nv_fail(err, NABLA_CORRUPT, "%s: a latent of %lld frames of %lld x %lld is too large", path,
                           (long long)e->shape[1], (long long)e->shape[2], (long long)e->shape[3]);
    return NABLA_OK;
}

static nabla_status read_values(const nv_st_entry *e, const char *path, nv_latent *out, nv_error *err) {
    const size_t count = e->bytes / sizeof(float);
    out->values = malloc(e->bytes);
    if (!out->values) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a latent of %zu numbers", count);
    NV_TRY(nv_st_read_f32(e, out->values, count, err));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out->values[i]))
            return nv_fail(err, NABLA_CORRUPT, "%s: the latent holds values that are no numbers, the first at %zu",
                           path, i);
    return NABLA_OK;
}

static void read_metadata(const nv_st_file *file, nv_latent *out) {
    const char *prompt = nv_st_metadata(file, "prompt"), *comment = nv_st_metadata(file, "comment");
    const char *fps = nv_st_metadata(file, "fps");
    const long rate = fps ? strtol(fps, NULL, 10) : 0;
    snprintf(out->prompt, sizeof out->prompt, "%s", prompt ? prompt : "");
    snprintf(out->comment, sizeof out->comment, "%s", comment ? comment : "");
    out->fps = rate >= 1 && rate <= NV_MOST_FPS ? (int32_t)rate : 0;
}

nabla_status nv_latent_read(const char *path, nv_latent *out, nv_error *err) {
    nv_st_file *file;
    *out = (nv_latent){0};
    NV_TRY(nv_st_open(path, &file, err));
    const nv_st_entry *e = nv_st_find(file, "latent");
    nabla_status status = check_shape(e, path, err);
    for (int i = 0; i < 4 && status == NABLA_OK; i++)
        out->shape[i] = (int32_t)e->shape[i];
    if (status == NABLA_OK) status = read_values(e, path, out, err);
    if (status == NABLA_OK) read_metadata(file, out);
    nv_st_close(file);
    if (status == NABLA_OK) return NABLA_OK;
    free(out->values);
    out->values = NULL;
    return status;
}

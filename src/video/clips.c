/* SPDX-License-Identifier: Apache-2.0 */
/* Writes procedural clips for people to look at, in the layout that `train --data` reads. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/media.h"
#include "train/draw.h"
#include "train/source.h"
#include "video/files.h"
#include "video/limits.h"
#include "video/report.h"
#include "weights/file.h"

enum { FPS = 8, CRF = 18, NAME_SIZE = 64, NOTE_SIZE = 96 };

typedef struct clip_job {
    const char *folder, *extension, *data; /* extension: without its dot */
    int32_t count;
    nv_clip_size clip;
    uint64_t seed;
    const nabla_video_machine *machine;
    nv_source source;
    float *video; /* [3, frames, height, width] */
} clip_job;

static nv_media_options media_of(const clip_job *j) {
    return (nv_media_options){
        .width = j->clip.width, .height = j->clip.height, .fps = FPS, .crf = CRF, .frames = j->clip.frames};
}

static nabla_status path_of(const clip_job *j, int32_t i, const char *extension, char path[NV_PATH_SIZE],
                            nv_error *err) {
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "clip-%04" PRId32 ".%s", i + 1, extension);
    return nv_path_join(path, j->folder, name, err);
}

static nabla_status write_clip(const clip_job *j, int32_t i, nv_error *err) {
    char path[NV_PATH_SIZE], caption[NV_CAPTION_SIZE], note[NOTE_SIZE];
    nv_philox g = nv_draw(j->seed, NV_DRAW_CLIP, 0, i);
    NV_TRY(j->source.draw(j->source.user, &g, &j->clip, j->video, caption, err));
    snprintf(note, sizeof note, "procedural clip %" PRId32 " of seed %" PRIu64, i + 1, j->seed);
    nv_media_options options = media_of(j);
    options.title = caption;
    options.comment = note;
    NV_TRY(path_of(j, i, j->extension, path, err));
    NV_TRY(nv_media_write(path, &options, j->video, err));
    NV_TRY(path_of(j, i, "txt", path, err));
    strcat(caption, "\n"); /* the source leaves room: captions are far shorter than their array */
    NV_TRY(nv_file_write(path, caption, strlen(caption), err));
    const nabla_video_machine *m = j->machine;
    if (m && m->progress && m->progress(m->user, "clips", i + 1, j->count, "") != 0)
        return nv_fail(err, NABLA_CANCELLED, "stopped after %" PRId32 " clips", i + 1);
    return NABLA_OK;
}

static nabla_status check(const clip_job *j, nv_error *err) {
    const nv_clip_size *c = &j->clip;
    char path[NV_PATH_SIZE];
    if (j->count < 1 || j->count > NV_MOST_SAMPLES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%" PRId32 " clips: choose 1 to %d", j->count, NV_MOST_SAMPLES);
    if (c->frames < 1 || c->frames > NV_MOST_FRAMES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%" PRId32 " frames a clip: choose 1 to %d", c->frames,
                       NV_MOST_FRAMES);
    NV_TRY(nv_folder_make(j->folder, err));
    NV_TRY(path_of(j, 0, j->extension, path, err));
    nv_media_options options = media_of(j);
    return nv_media_check(path, &options, err);
}

static nabla_status run(clip_job *j, nv_error *err) {
    const nv_clip_size *c = &j->clip;
    size_t video = 0;
    NV_TRY(check(j, err));
    if (!nv_source_named(j->data, &j->source))
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "clips of \"%.40s\" are unknown: use \"clips\" or \"scenes\"",
                       j->data);
    NV_TRY(nv_memory_add(&video, sizeof *j->video, 3, c->frames, c->height, c->width, err));
    NV_TRY(nv_memory_check(NULL, video, "a clip", "choose smaller clips", err));
    j->video = malloc(video);
    if (!j->video) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a clip: choose smaller ones");
    for (int32_t i = 0; i < j->count; i++) {
        NV_TRY(write_clip(j, i, err));
    }
    return NABLA_OK;
}

nabla_status nabla_write_clips(const char *folder, const char *extension, const char *data, int32_t count,
                               int32_t frames, int32_t height, int32_t width, uint64_t seed,
                               const nabla_video_machine *machine, nabla_video_error *out) {
    nv_error err = {0};
    if (!folder || !extension)
        return nv_report(out, nv_fail(&err, NABLA_INVALID_ARGUMENT, "clips need a folder and an extension"), &err);
    if (machine && machine->size != sizeof *machine) return nv_report_version(out, "nabla_video_machine");
    clip_job j = {.folder = folder, .data = data ? data : "clips", .count = count, .seed = seed, .machine = machine};
    j.extension = *extension == '.' ? extension + 1 : extension;
    j.clip = (nv_clip_size){.frames = frames, .height = height, .width = width};
    nabla_status status = run(&j, &err);
    nv_source_destroy(&j.source);
    free(j.video);
    return nv_report(out, status, &err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/eval_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "media/media.h"
#include "train/likeness.h"
#include "video/files.h"
#include "weights/file.h"

enum { CRF = 18, ENDING_SIZE = 32, NAME_SIZE = 256, LINE_SIZE = NV_CAPTION_SIZE + 128 };

static nabla_status path_of(const nv_eval_files *f, const char *ending, char path[NV_PATH_SIZE], nv_error *err) {
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%.200s%.40s", f->policy, ending);
    return nv_path_join(path, f->folder, name, err);
}

static int bit(uint8_t right, unsigned mask) {
    return (right & mask) != 0;
}

/* Captions hold commas, but no quotes. */
static nabla_status put_prompt(const nv_eval_files *f, int32_t i, nv_file_writer *file, nv_error *err) {
    char caption[NV_CAPTION_SIZE], line[LINE_SIZE], relation[2] = "", psnr[32] = "", ssim[32] = "";
    nv_cast_wish wish;
    const uint8_t r = f->right[i];
    nv_eval_prompt(f->data, f->seed, i, caption, &wish);
    if (r & NV_ASKED_RELATION) snprintf(relation, sizeof relation, "%d", bit(r, NV_RIGHT_RELATION));
    if (f->compared && i < f->clips->count) {
        snprintf(psnr, sizeof psnr, "%.4f", nv_psnr(f->clips->square[i]));
        snprintf(ssim, sizeof ssim, "%.6f", f->clips->ssim[i]);
    }
    const int n = snprintf(line, sizeof line, "%" PRId32 ",\"%s\",%d,%d,%d,%d,%d,%d,%s,%s,%s\n", i + 1, caption,
                           bit(r, NV_RIGHT_COLOUR), bit(r, NV_RIGHT_SHAPE), bit(r, NV_RIGHT_MOTION),
                           bit(r, NV_RIGHT_COUNT), bit(r, NV_SEEN_MORE), bit(r, NV_SEEN_FEWER), relation, psnr, ssim);
    return nv_file_put(file, line, (size_t)n, err);
}

static nabla_status write_prompts(const nv_eval_files *f, nv_error *err) {
    static const char header[] = "prompt,caption,colour,shape,motion,count,more,fewer,relation,psnr,ssim\n";
    char path[NV_PATH_SIZE];
    nv_file_writer *file;
    NV_TRY(path_of(f, ".csv", path, err));
    NV_TRY(nv_file_create(path, &file, err));
    nabla_status status = nv_file_put(file, header, strlen(header), err);
    for (int32_t i = 0; i < f->prompts && status == NABLA_OK; i++)
        status = put_prompt(f, i, file, err);
    if (status == NABLA_OK) return nv_file_commit(file, err);
    nv_file_abandon(file);
    return status;
}

static nabla_status video_path(const nv_eval_files *f, int32_t i, char path[NV_PATH_SIZE], nv_error *err) {
    char ending[ENDING_SIZE];
    snprintf(ending, sizeof ending, "-%04" PRId32 ".%s", i + 1, nv_media_available() ? "mp4" : "png");
    return path_of(f, ending, path, err);
}

static nv_media_options media_of(const nv_eval_files *f) {
    const nv_clip_size *size = &f->clips->size;
    return (nv_media_options){
        .width = size->width, .height = size->height, .fps = f->fps, .crf = CRF, .frames = size->frames};
}

static nabla_status write_video(const nv_eval_files *f, int32_t i, nv_error *err) {
    char path[NV_PATH_SIZE], caption[NV_CAPTION_SIZE], note[NAME_SIZE];
    nv_cast_wish wish;
    nv_media_options options = media_of(f);
    nv_eval_prompt(f->data, f->seed, i, caption, &wish);
    snprintf(note, sizeof note, "nabla eval: prompt %" PRId32 " of seed %" PRIu64 ", policy %.200s", i + 1, f->seed,
             f->policy);
    NV_TRY(video_path(f, i, path, err));
    options.title = caption;
    options.comment = note;
    return nv_media_write(path, &options, f->clips->video + (size_t)i * nv_eval_clips_values(f->clips), err);
}

nabla_status nv_eval_files_check(const nv_eval_files *f, nv_error *err) {
    char path[NV_PATH_SIZE];
    if (f->videos == 0) return NABLA_OK;
    const nv_media_options options = media_of(f);
    NV_TRY(video_path(f, 0, path, err));
    return nv_media_check(path, &options, err);
}

nabla_status nv_eval_files_write(const nv_eval_files *f, nv_error *err) {
    char path[NV_PATH_SIZE];
    NV_TRY(write_prompts(f, err));
    for (int32_t i = 0; i < f->videos; i++)
        NV_TRY(write_video(f, i, err));
    if (!f->map) return NABLA_OK;
    NV_TRY(path_of(f, ".map.csv", path, err));
    return nv_eval_map_write(f->map, path, err);
}

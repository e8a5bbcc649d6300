/* SPDX-License-Identifier: Apache-2.0 */
#include "video/eval_clips.h"

#include <math.h>
#include <stdlib.h>

#include "train/likeness.h"
#include "video/files.h"

nabla_status nv_eval_clips_create(int32_t count, const nv_clip_size *size, nabla_eval_clips **out, nv_error *err) {
    size_t bytes = 0;
    NV_TRY(nv_memory_add(&bytes, 3 * sizeof(float), count, size->frames, size->height, size->width, err));
    NV_TRY(nv_memory_check(NULL, bytes, "the clips to compare", "compare fewer", err));
    nabla_eval_clips *clips = calloc(1, sizeof *clips);
    if (clips) {
        *clips = (nabla_eval_clips){.count = count, .size = *size, .video = malloc(bytes)};
        clips->square = calloc((size_t)count, sizeof *clips->square);
        clips->ssim = calloc((size_t)count, sizeof *clips->ssim);
    }
    *out = clips;
    if (clips && clips->video && clips->square && clips->ssim) return NABLA_OK;
    nabla_eval_clips_destroy(clips);
    *out = NULL;
    return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d clips: compare fewer", count);
}

void nabla_eval_clips_destroy(nabla_eval_clips *clips) {
    if (!clips) return;
    free(clips->video);
    free(clips->square);
    free(clips->ssim);
    free(clips);
}

size_t nv_eval_clips_values(const nabla_eval_clips *clips) {
    const nv_clip_size *s = &clips->size;
    return 3 * (size_t)s->frames * (size_t)s->height * (size_t)s->width;
}

nabla_status nv_eval_clips_match(const nabla_eval_clips *clips, const nabla_eval_clips *reference, nv_error *err) {
    const nv_clip_size *a = &clips->size, *b = &reference->size;
    if (clips->count == reference->count && a->frames == b->frames && a->height == b->height && a->width == b->width)
        return NABLA_OK;
    return nv_fail(err, NABLA_INVALID_ARGUMENT,
                   "the reference holds %d clips of %dx%d and %d frames, this call makes %d of %dx%d and %d: use the "
                   "same options for both",
                   reference->count, b->width, b->height, b->frames, clips->count, a->width, a->height, a->frames);
}

/* Sums in the order of the clips, so that the threads do not show. */
void nv_eval_clips_measure(const nabla_eval_clips *clips, const nabla_eval_clips *reference, const int32_t patch[2],
                           const int32_t tile[2], int threads, nabla_eval_result *result) {
    const size_t n = nv_eval_clips_values(clips);
    nv_edge_energy energy = {0};
    double square = 0.0, ssim = 0.0;
#pragma omp parallel for ordered schedule(static, 1) num_threads(threads)
    for (int32_t i = 0; i < clips->count; i++) {
        const float *a = clips->video + (size_t)i * n, *b = reference ? reference->video + (size_t)i * n : a;
        clips->square[i] = nv_mean_square(a, b, n);
        clips->ssim[i] = reference ? nv_ssim(b, a, &clips->size) : 0.0;
#pragma omp ordered
        {
            square += clips->square[i];
            ssim += clips->ssim[i];
            nv_edge_energy_add(a, &clips->size, patch, tile, &energy);
        }
    }
    result->psnr = reference ? nv_psnr(square / (double)clips->count) : NAN;
    result->ssim = reference ? ssim / (double)clips->count : NAN;
    result->border = nv_edge_ratio(&energy);
}

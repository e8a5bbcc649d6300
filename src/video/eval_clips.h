/* SPDX-License-Identifier: Apache-2.0 */
/* The first clips of an evaluation, kept to be measured and compared. */
#ifndef NV_EVAL_CLIPS_H
#define NV_EVAL_CLIPS_H

#include "nabla/video.h"
#include "tensor/error.h"
#include "train/source.h"

struct nabla_eval_clips {
    int32_t count;
    nv_clip_size size;
    float *video;          /* [count, 3, frames, height, width] */
    double *square, *ssim; /* [count], against a reference: mean squared difference, likeness */
};

nabla_status nv_eval_clips_create(int32_t count, const nv_clip_size *size, nabla_eval_clips **out, nv_error *err);
size_t nv_eval_clips_values(const nabla_eval_clips *clips); /* numbers of one */
/* Whether `reference` holds as many clips of that size. */
nabla_status nv_eval_clips_match(const nabla_eval_clips *clips, const nabla_eval_clips *reference, nv_error *err);
/* Figures of each and of all for a model of such patches and tiles (height and width); reference may be NULL. */
void nv_eval_clips_measure(const nabla_eval_clips *clips, const nabla_eval_clips *reference, const int32_t patch[2],
                           const int32_t tile[2], int threads, nabla_eval_result *result);

#endif

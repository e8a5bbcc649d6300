/* SPDX-License-Identifier: Apache-2.0 */
/* Frames on their way into a file: a video or pictures (media.h), or, for a name that ends in .safetensors, the tensor
   `frames` fp32 [3, T, H, W] in [-1, 1]. */
#ifndef NV_FRAMES_OUT_H
#define NV_FRAMES_OUT_H

#include "device/device.h"
#include "media/media.h"
#include "nabla/video.h"

typedef struct nv_frames_out nv_frames_out;

/* As nv_media_check. */
nabla_status nv_frames_out_check(const char *path, const nv_media_options *options, nv_error *err);
/* Bytes that it holds until the end, of the memory that `device` computes in: none of a GPU's. */
size_t nv_frames_out_memory(const char *path, const nv_media_options *options, const nv_device *device);
/* Whether the host has room for it, where that is not the device's own memory. */
nabla_status nv_frames_out_room(const char *path, const nv_media_options *options, const nv_device *device,
                                nv_error *err);
/* machine: whose profile says what writing took; it must outlive *out. */
nabla_status nv_frames_out_open(const char *path, const nv_media_options *options, const nabla_video_machine *machine,
                                nv_frames_out **out, nv_error *err);
/* Frames in order, planes [3, height, width]: an nv_vae_frame, whose user is the nv_frames_out. */
nabla_status nv_frames_out_give(void *out, int32_t frame, const float *planes, nv_error *err);
/* Frees it whatever happens. seconds (may be NULL) += what writing took, frames included. */
nabla_status nv_frames_out_finish(nv_frames_out *out, double *seconds, nv_error *err);
void nv_frames_out_abandon(nv_frames_out *out); /* leaves nothing; NULL is fine */

#endif

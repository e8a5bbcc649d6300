/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's profile, kept up to date as a call goes from part to part. All of these do nothing where the machine has
   none. */
#ifndef NV_PROFILE_H
#define NV_PROFILE_H

#include "device/device.h"
#include "dit/dit.h"
#include "nabla/video.h"

/* Checks the profile's version and starts the clock, in the part that loads. Every call that starts it stops it. */
nabla_status nv_profile_start(const nabla_video_machine *machine, nabla_video_error *err);
void nv_profile_stop(const nabla_video_machine *machine);

/* What follows is of that part; returns the part so far, to go back to. */
nabla_video_part nv_profile_enter(const nabla_video_machine *machine, nabla_video_part part);

/* Around what the device does for the part that it is now. */
void nv_profile_begin(const nabla_video_machine *machine, nv_device *device);
void nv_profile_end(const nabla_video_machine *machine, nv_device *device, nabla_dtype compute);

/* A pass of a transformer that is done (the backward pass of it too, where there was one): its time leaves the part
   that it is now, and its wait for offloaded weights goes to the waits. What was done beside it (update_s) stays. */
void nv_profile_pass(const nabla_video_machine *machine, const nv_dit_stats *pass);

#endif

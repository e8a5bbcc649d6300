/* SPDX-License-Identifier: Apache-2.0 */
/* The device that a caller's machine asks for. */
#ifndef NV_MACHINE_H
#define NV_MACHINE_H

#include "device/device.h"
#include "nabla/video.h"

nabla_status nv_machine_open(const nabla_video_machine *machine, nv_device **out, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The one door to the GPU side; a build without CUDA has no_cuda.c behind it. */
#ifndef NV_CUDA_CREATE_H
#define NV_CUDA_CREATE_H

#include "device/device.h"

nabla_status nv_cuda_create(const nv_device_options *options, nv_device **out, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA device of memory and our own kernels alone, without products and attention: all that a test or a benchmark of
   them needs, on a GPU or the emulated one. */
#ifndef OPS_DEVICE_H
#define OPS_DEVICE_H

#include "device/cuda/cuda.h"

/* The first GPU and a stream of its own. NABLA_UNSUPPORTED where there is none. */
nabla_status ops_device_create(nv_device **out, nv_error *err);
void ops_device_destroy(nv_device *dev);

#endif

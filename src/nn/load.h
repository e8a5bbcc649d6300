/* SPDX-License-Identifier: Apache-2.0 */
/* One tensor of a weights file into the device's memory. */
#ifndef NV_LOAD_H
#define NV_LOAD_H

#include "device/device.h"
#include "weights/safetensors.h"

enum { NV_LOAD_PIECE = 1 << 20 /* numbers: what is in both dtypes at a time */ };

/* dst (its columns the tensor's last dimension, contiguous) = the tensor, in dst's dtype. Straight from the mapped file
   where that is the file's, else piece by piece, so that never more than a piece is held twice; but a tensor with
   strides (a .pth's transposed one) is read as a whole first. */
nabla_status nv_load(nv_device *dev, const nv_st_entry *entry, nv_matrix dst, nv_error *err);
/* The bytes that it needs for pieces. */
size_t nv_load_memory(void);

#endif

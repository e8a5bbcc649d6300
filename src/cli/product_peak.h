/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PRODUCT_PEAK_H
#define CLI_PRODUCT_PEAK_H

#include "device/device.h"

/* Operations a second of a product that fills the device: the larger, the faster the device. */
nabla_status cli_product_peak(nv_device *dev, nabla_dtype dtype, uint64_t seed, double *flops, nv_error *err);

/* Normally distributed, times scale; of stream `stream` of the seed. The caller's to free; NULL: there is no memory. */
float *cli_random_numbers(uint64_t seed, uint64_t stream, size_t count, float scale, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The device that the engine's tests run on: the CPU, or the GPU where the environment says NABLA_TEST_DEVICE=cuda. */
#ifndef TEST_DEVICE_H
#define TEST_DEVICE_H

#include "device/device.h"

/* Whether it is the GPU. */
int test_on_gpu(void);
/* Its i-th level, the best one last; NULL past it. */
const char *test_level(int i);
nabla_status test_device_create(int32_t threads, const char *level, nv_device **out, nv_error *err);

/* A copy in the device's memory, to be released there; NULL of NULL. */
void *test_upload(nv_device *dev, const void *data, size_t bytes);
/* A copy on the host, to be freed. */
void *test_download(nv_device *dev, const void *data, size_t bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"
#include <stdlib.h>
#include <string.h>

int test_on_gpu(void) {
    const char *name = getenv("NABLA_TEST_DEVICE");
    return name && strcmp(name, "cuda") == 0;
}

const char *test_level(int i) {
    static const char *const levels[] = {"sm80", "sm90"};
    nabla_device_info info = {.size = sizeof info};
    if (!test_on_gpu()) return nabla_level_name(i);
    if (i < 0 || i > 1 || nabla_device_describe(NABLA_CUDA, 0, &info, NULL, 0) != NABLA_OK) return NULL;
    return strcmp(levels[i], info.level) <= 0 ? levels[i] : NULL;
}

nabla_status test_device_create(int32_t threads, const char *level, nv_device **out, nv_error *err) {
    const nv_device_options options = {
        .device = test_on_gpu() ? NABLA_CUDA : NABLA_CPU, .threads = threads, .level = level};
    return nv_device_create(&options, out, err);
}

void *test_upload(nv_device *dev, const void *data, size_t bytes) {
    void *copy = NULL;
    if (!data) return NULL;
    if (dev->ops->allocate(dev, bytes, &copy, NULL) != NABLA_OK) abort();
    dev->ops->upload(dev, copy, data, bytes);
    return copy;
}

void *test_download(nv_device *dev, const void *data, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    if (!copy) abort();
    if (dev->ops->download(dev, copy, data, bytes, NULL) != NABLA_OK) abort();
    return copy;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Which device is made; the rest is in its table. */
#include "device/device.h"
#include "device/cpu/cpu.h"
#include "device/create.h"

const char *nv_device_products(const nv_device *dev, nabla_dtype dtype) {
    return dev->ops->products(dev, dtype);
}

nabla_status nv_device_create(const nv_device_options *options, nv_device **out, nv_error *err) {
    static const nv_device_options defaults = {0};
    const nv_device_options *o = options ? options : &defaults;
    *out = NULL;
    if (o->device == NABLA_CUDA) return nv_cuda_create(o, out, err);
    if (o->device == NABLA_CPU) return nv_cpu_create(o, out, err);
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "there is no device %d: choose NABLA_CPU or NABLA_CUDA",
                   (int)o->device);
}

void nv_device_destroy(nv_device *dev) {
    if (dev) dev->ops->destroy(dev);
}

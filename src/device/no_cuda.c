/* SPDX-License-Identifier: Apache-2.0 */
#include "device/create.h"

nabla_status nv_cuda_create(const nv_device_options *options, nv_device **out, nv_error *err) {
    (void)options;
    *out = NULL;
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "this build has no GPU side (it was made without CUDA): use the CPU, or build "
                   "with nvcc and NABLA_CUDA=ON");
}

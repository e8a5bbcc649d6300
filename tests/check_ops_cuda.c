/* SPDX-License-Identifier: Apache-2.0 */
/* check_ops for the kernels of the CUDA device, on the first GPU or on the emulated one. Says so and passes where there
   is none. */
#include "ops_case.h"
#include "ops_device.h"
#include <stdio.h>

int main(void) {
    nv_device *dev;
    nv_error err = {0};
    const nabla_status status = ops_device_create(&dev, &err);
    if (status != NABLA_OK) {
        printf("check_ops_cuda: %s\n", err.text);
        return status != NABLA_UNSUPPORTED;
    }
    const int failures = ops_run_all(dev, 0);
    ops_device_destroy(dev);
    printf("%d failures\n", failures);
    return failures != 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* check_ops of the CUDA device alone, without the engine: on the first GPU or on the emulated one. Says so and passes
   where there is none. */
#include "device/create.h"
#include "ops_case.h"
#include <stdio.h>

int main(void) {
    const nv_device_options gpu = {.device = NABLA_CUDA};
    nv_device *dev;
    nv_error err = {0};
    if (nabla_device_count(NABLA_CUDA) == 0) {
        printf("check_ops_cuda: no GPU here, or no driver for it\n");
        return 0;
    }
    if (nv_cuda_create(&gpu, &dev, &err) != NABLA_OK) {
        printf("check_ops_cuda: %s\n", err.text);
        return 1;
    }
    const int failures = ops_run_all(dev, 0);
    dev->ops->destroy(dev);
    printf("%d failures\n", failures);
    return failures != 0;
}

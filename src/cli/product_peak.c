/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/product_peak.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/bf16.h"
#include "tensor/random.h"

float *cli_random_numbers(uint64_t seed, uint64_t stream, size_t count, float scale, nv_error *err) {
    float *host = malloc(count * sizeof *host);
    nv_philox g = nv_philox_at(seed, stream);
    if (!host) {
        nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu numbers", count);
        return NULL;
    }
    nv_philox_normal(&g, host, count);
    for (size_t i = 0; i < count; i++)
        host[i] *= scale;
    return host;
}

/* Random numbers: with equal ones, as fresh memory has, a GPU draws less power and clocks higher. Rounded here, so that
   the device holds nothing but the factor: what it held at most is reported. */
static nabla_status fill_factor(nv_device *dev, const nv_matrix *factor, uint64_t seed, uint64_t stream,
                                nv_error *err) {
    const size_t count = (size_t)(factor->rows * factor->cols);
    float *host = cli_random_numbers(seed, stream, count, 1.0f, err);
    if (!host) return NABLA_OUT_OF_MEMORY;
    for (size_t i = 0; i < count && factor->dtype == NABLA_BF16; i++) {
        const nv_bf16 rounded = nv_bf16_from_float(host[i]);
        memcpy((char *)host + i * sizeof rounded, &rounded, sizeof rounded); /* at or before what was read */
    }
    dev->ops->upload(dev, factor->data, host, count * nabla_dtype_size(factor->dtype));
    free(host);
    return NABLA_OK;
}

/* The best of five square products of that side; *seconds: what it took. */
static nabla_status time_product(nv_device *dev, nabla_dtype dtype, uint64_t seed, int64_t n, double *seconds,
                                 nv_error *err) {
    nv_matrix m[3] = {{0}};
    nabla_status status = NABLA_OK;
    *seconds = INFINITY;
    for (int i = 0; i < 3 && status == NABLA_OK; i++) {
        m[i] = nv_matrix_of(NULL, dtype, n, n);
        status = dev->ops->allocate(dev, (size_t)(n * n) * nabla_dtype_size(dtype), &m[i].data, err);
    }
    for (int i = 0; i < 2 && status == NABLA_OK; i++)
        status = fill_factor(dev, &m[i], seed, (uint64_t)i, err);
    for (int i = 0; i < 5 && status == NABLA_OK; i++) {
        nv_clock clock;
        dev->ops->clock_reset(dev);
        status = dev->ops->linear(dev, m[0], m[1], NULL, m[2], err);
        dev->ops->clock_read(dev, &clock);
        *seconds = fmin(*seconds, clock.seconds[NV_PRODUCTS]);
    }
    for (int i = 0; i < 3; i++)
        dev->ops->release(dev, m[i].data);
    return status;
}

nabla_status cli_product_peak(nv_device *dev, nabla_dtype dtype, uint64_t seed, double *flops, nv_error *err) {
    double seconds = 0;
    *flops = 0;
    for (int64_t n = 1024; n <= 8192 && seconds < 1e-2; n *= 2) {
        NV_TRY(time_product(dev, dtype, seed, n, &seconds, err));
        *flops = fmax(*flops, 2.0 * (double)n * (double)n * (double)n / seconds);
    }
    return NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

#include <string.h>

nabla_status nabla_cpu_permute(nabla_context *ctx, const nabla_permutation *p) {
    const int64_t size = (int64_t)nabla_dtype_size(p->src->dtype), tokens = p->order->tokens;
    const int32_t *raster = p->order->raster;
    const char *from = p->src->data;
    char *to = p->dst->data;
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t n = 0; n < p->src->shape[0] * tokens; n++) {
        const int64_t b = n / tokens, i = n % tokens;
        const int64_t s = p->gather ? raster[i] : i, d = p->gather ? i : raster[i];
        memcpy(to + (b * p->dst->stride[0] + d * p->dst->stride[1]) * size,
               from + (b * p->src->stride[0] + s * p->src->stride[1]) * size, (size_t)(p->elements * size));
    }
    return NABLA_OK;
}

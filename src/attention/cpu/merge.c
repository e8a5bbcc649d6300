/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"
#include "rows.h"

#include <math.h>

static float *lse_at(const nabla_tensor *lse, int64_t b, int64_t h, int64_t s) {
    return (float *)lse->data + b * lse->stride[0] + h * lse->stride[1] + s * lse->stride[2];
}

/* Weights exp(lse - max) of the two; a side that attended to nothing has -inf and weighs nothing. */
static void merge_row(const nabla_tensor *o_a, float *lse_a, const nabla_tensor *o_b, float lse_b, int64_t b, int64_t s,
                      int64_t h) {
    const float max = *lse_a > lse_b ? *lse_a : lse_b;
    if (lse_b == -INFINITY) return;
    const float weight_a = expf(*lse_a - max), weight_b = expf(lse_b - max), sum = weight_a + weight_b;
    const int32_t dim = (int32_t)o_a->shape[3];
    float a[256], other[256];
    nabla_load_row(nabla_tensor_at(o_a, b, s, h), o_a->dtype, 0, dim, a);
    nabla_load_row(nabla_tensor_at(o_b, b, s, h), o_b->dtype, 0, dim, other);
    for (int32_t d = 0; d < dim; d++)
        a[d] = (weight_a * a[d] + weight_b * other[d]) / sum;
    nabla_store_row(a, nabla_tensor_at(o_a, b, s, h), o_a->dtype, 0, dim);
    *lse_a = max + logf(sum);
}

nabla_status nabla_cpu_merge(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                             const nabla_tensor *o_b, const nabla_tensor *lse_b) {
    const int64_t tokens = o_a->shape[1], heads = o_a->shape[2];
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < o_a->shape[0] * tokens * heads; i++) {
        const int64_t b = i / heads / tokens, s = i / heads % tokens, h = i % heads;
        merge_row(o_a, lse_at(lse_a, b, h, s), o_b, *lse_at(lse_b, b, h, s), b, s, h);
    }
    return NABLA_OK;
}

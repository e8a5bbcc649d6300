/* SPDX-License-Identifier: Apache-2.0 */
#include "score.h"
#include "layout.h"
#include "tensor.h"

#include <string.h>

/* The mean of block `block` of head bh, of tokens or as given. [D] */
static void mean_of(const nabla_kernels *kernels, const nabla_tensor *tokens, const nabla_tensor *given,
                    const int32_t *offsets, int64_t heads, int64_t bh, int64_t block, int32_t head_dim, float *mean) {
    if (given) {
        memcpy(mean, nabla_tensor_at(given, bh / heads, bh % heads, block), (size_t)head_dim * sizeof *mean);
        return;
    }
    kernels->of[tokens->dtype].block_mean(nabla_tensor_rows(tokens, bh / heads, bh % heads), offsets[block],
                                          offsets[block + 1], head_dim, mean);
}

void nabla_fill_means(nabla_context *ctx, const nabla_plan *plan, const nabla_scored *in, nabla_means *means) {
    const int64_t heads = plan->heads, nq = plan->nq, nk = plan->nk, padded = nabla_score_keys(nk);
    const int32_t dim = means->head_dim;
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t i = 0; i < plan->batch * (nq + padded) * heads; i++) { /* heads innermost: their rows are neighbours */
        const int64_t batch = i / heads / (nq + padded), bh = batch * heads + i % heads;
        const int64_t block = i / heads % (nq + padded), key = block - nq;
        if (block < nq) {
            mean_of(&ctx->kernels, in->q, in->q_mean, plan->q_offsets, heads, bh, block, dim,
                    means->q + (bh * nq + block) * dim);
            continue;
        }
        float mean[256] = {0};
        if (key < nk) mean_of(&ctx->kernels, in->k, in->k_mean, plan->k_offsets, heads, bh, key, dim, mean);
        ctx->kernels.score.put_key(mean, (int32_t)key, dim, means->k + (size_t)bh * means->key_bytes);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The generic level: plain C, always built, always selectable, the oracle that other levels are tested against. Rows of
 * either dtype become fp32 in scratch; loops run along contiguous memory so that any compiler vectorises them without
 * changing the order of a sum.
 */
#include "generic.h"
#include "rows.h"
#include "select.h"

#include <math.h>

void generic_load(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t count, int32_t head_dim, float *out) {
    for (int32_t i = 0; i < count; i++)
        nabla_load_row(x.data, dtype, (first + i) * x.stride, head_dim, out + (int64_t)i * head_dim);
}

void generic_load_transposed(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t count, int32_t head_dim,
                             float *out) {
    float row[256];
    if (count < GENERIC_CHUNK) memset(out, 0, (size_t)head_dim * GENERIC_CHUNK * sizeof *out);
    for (int32_t i = 0; i < count; i++) {
        nabla_load_row(x.data, dtype, (first + i) * x.stride, head_dim, row);
        for (int32_t d = 0; d < head_dim; d++)
            out[d * GENERIC_CHUNK + i] = row[d];
    }
}

void generic_products(const float *a, int32_t rows, const float *b, int32_t head_dim, float *out) {
    for (int32_t i = 0; i < rows; i++) {
        float sums[GENERIC_CHUNK] = {0};
        for (int32_t d = 0; d < head_dim; d++) {
            const float x = a[(int64_t)i * head_dim + d];
            for (int32_t j = 0; j < GENERIC_CHUNK; j++)
                sums[j] += x * b[d * GENERIC_CHUNK + j];
        }
        memcpy(out + i * GENERIC_CHUNK, sums, sizeof sums);
    }
}

static void block_mean(nabla_rows x, nabla_dtype dtype, int32_t first, int32_t last, int32_t head_dim, float *mean) {
    float row[256], sum[256] = {0};
    for (int32_t t = first; t < last; t++) {
        nabla_load_row(x.data, dtype, t * x.stride, head_dim, row);
        for (int32_t d = 0; d < head_dim; d++)
            sum[d] += row[d];
    }
    for (int32_t d = 0; d < head_dim; d++)
        mean[d] = sum[d] / (float)(last - first);
}

NABLA_DECL_BLOCK_MEAN(block_mean_fp32_generic) {
    block_mean(x, NABLA_FP32, first, last, head_dim, mean);
}

NABLA_DECL_BLOCK_MEAN(block_mean_bf16_generic) {
    block_mean(x, NABLA_BF16, first, last, head_dim, mean);
}

NABLA_DECL_DELTA(delta_generic) {
    float a[256], b[256];
    for (int32_t i = 0; i < count; i++) {
        nabla_load_row(o.data, o_dtype, i * o.stride, head_dim, a);
        nabla_load_row(d_o.data, d_o_dtype, i * d_o.stride, head_dim, b);
        float sum = 0.0f;
        for (int32_t d = 0; d < head_dim; d++)
            sum += a[d] * b[d];
        delta[i] = alpha * sum;
    }
}

static size_t keys_size_generic(int64_t keys, int32_t head_dim) {
    return (size_t)keys * (size_t)head_dim * sizeof(float);
}

NABLA_DECL_PUT_KEY(put_key_generic) {
    float *panel =
        (float *)keys + (int64_t)(key / NABLA_SCORE_PANEL) * NABLA_SCORE_PANEL * head_dim + key % NABLA_SCORE_PANEL;
    for (int32_t d = 0; d < head_dim; d++)
        panel[d * NABLA_SCORE_PANEL] = mean[d];
}

/* One row's products with all panels, scaled. */
static void score_row(const float *q, const float *k_panels, int32_t n, int32_t head_dim, float scale, float *scores) {
    for (int32_t j0 = 0; j0 < n; j0 += NABLA_SCORE_PANEL) {
        const float *panel = k_panels + (int64_t)j0 * head_dim;
        float sums[NABLA_SCORE_PANEL] = {0};
        for (int32_t d = 0; d < head_dim; d++)
            for (int32_t j = 0; j < NABLA_SCORE_PANEL; j++)
                sums[j] += q[d] * panel[d * NABLA_SCORE_PANEL + j];
        for (int32_t j = 0; j < NABLA_SCORE_PANEL && j0 + j < n; j++)
            scores[j0 + j] = sums[j] * scale;
    }
}

NABLA_DECL_SCORE_ROWS(score_rows_generic) {
    const float log2_e = 1.44269504088896340736f;
    for (int32_t r = 0; r < rows; r++)
        score_row(q_mean + (int64_t)r * head_dim, keys, n, head_dim, scale * log2_e, scores + r * stride);
}

NABLA_DECL_SCORE_SOFTMAX(score_softmax_generic) {
    float max = -INFINITY, sum = 0.0f;
    for (int32_t j = 0; j < n; j++) {
        if (allowed && !(allowed[j / 64] >> (j % 64) & 1)) row[j] = -INFINITY;
        max = row[j] > max ? row[j] : max;
    }
    if (max == -INFINITY) { /* nothing allowed, or nothing but -inf and NaN */
        for (int32_t j = 0; j < n; j++)
            row[j] = row[j] != row[j] ? row[j] : 0.0f;
        return;
    }
    for (int32_t j = 0; j < n; j++) {
        row[j] = exp2f(row[j] - max);
        sum += row[j];
    }
    for (int32_t j = 0; j < n; j++)
        row[j] /= sum;
}

void nabla_kernels_generic(nabla_kernels *table) {
    table->score = (nabla_score_kernels){.put_key = put_key_generic,
                                         .keys_size = keys_size_generic,
                                         .products = score_rows_generic,
                                         .rows = 8,
                                         .softmax = score_softmax_generic};
    table->select_row = select_row_generic;
    table->delta = delta_generic;
    table->of[NABLA_FP32].block_mean = block_mean_fp32_generic;
    table->of[NABLA_FP32].forward.run = forward_fp32_generic;
    table->of[NABLA_FP32].backward_kv = backward_kv_fp32_generic;
    table->of[NABLA_FP32].backward_q = backward_q_fp32_generic;
    table->of[NABLA_BF16].block_mean = block_mean_bf16_generic;
    table->of[NABLA_BF16].forward.run = forward_bf16_generic;
    table->of[NABLA_BF16].backward_kv = backward_kv_bf16_generic;
    table->of[NABLA_BF16].backward_q = backward_q_bf16_generic;
    for (int32_t dtype = 0; dtype < NABLA_CPU_DTYPES; dtype++) {
        table->of[dtype].forward.scratch = forward_scratch_generic;
        table->of[dtype].forward_int8 = int8_kernels_generic((nabla_dtype)dtype);
        table->of[dtype].backward_scratch = backward_scratch_generic;
    }
}

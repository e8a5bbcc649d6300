/* SPDX-License-Identifier: Apache-2.0 */
#include "simd_avx2.h"

#define PAIRED 0

static inline vf v_dot(vf sum, vf a, vf b) {
    return v_fma(a, b, sum);
}

#include "backward.inc.h"
#include "forward.inc.h"
#include "score.inc.h"
#include "select.inc.h"

static NABLA_DECL_BLOCK_MEAN(block_mean_fp32_avx2) {
    block_mean(x, NABLA_FP32, first, last, head_dim, mean);
}
static NABLA_DECL_BLOCK_MEAN(block_mean_bf16_avx2) {
    block_mean(x, NABLA_BF16, first, last, head_dim, mean);
}
static NABLA_DECL_SCORE_ROWS(score_rows_avx2) {
    score_rows(q_mean, rows, keys, n, head_dim, scale, scores, stride);
}
static NABLA_DECL_SCORE_SOFTMAX(score_softmax_avx2) {
    score_softmax(row, n, allowed);
}
static NABLA_DECL_SELECT_ROW(select_row_avx2) {
    return select_row(probs, n, thr, bits);
}
static NABLA_DECL_DELTA(delta_avx2) {
    row_deltas(o, o_dtype, d_o, d_o_dtype, count, head_dim, alpha, delta);
}
static NABLA_DECL_PACK(pack_k_fp32_avx2) {
    fill_rows(x, NABLA_FP32, first, last - first, head_dim, piece_at(packed, piece, head_dim));
}
static NABLA_DECL_PACK(pack_v_fp32_avx2) {
    fill_cols(x, NABLA_FP32, first, last - first, head_dim, piece_at(packed, piece, head_dim));
}
static NABLA_DECL_PACK(pack_k_bf16_avx2) {
    fill_rows(x, NABLA_BF16, first, last - first, head_dim, piece_at(packed, piece, head_dim));
}
static NABLA_DECL_PACK(pack_v_bf16_avx2) {
    fill_cols(x, NABLA_BF16, first, last - first, head_dim, piece_at(packed, piece, head_dim));
}
static NABLA_DECL_FORWARD(forward_fp32_avx2) {
    forward(task, NABLA_FP32);
}
static NABLA_DECL_FORWARD(forward_bf16_avx2) {
    forward(task, NABLA_BF16);
}

static NABLA_DECL_BACKWARD(backward_kv_fp32_avx2) {
    backward_kv(task, NABLA_FP32);
}
static NABLA_DECL_BACKWARD(backward_kv_bf16_avx2) {
    backward_kv(task, NABLA_BF16);
}
static NABLA_DECL_BACKWARD(backward_q_fp32_avx2) {
    backward_q(task, NABLA_FP32);
}
static NABLA_DECL_BACKWARD(backward_q_bf16_avx2) {
    backward_q(task, NABLA_BF16);
}

void nabla_kernels_avx2(nabla_kernels *table) {
    table->score.products = score_rows_avx2;
    table->score.rows = NABLA_SCORE_ROWS / SCORE_MR * SCORE_MR; /* whole tiles */
    table->score.softmax = score_softmax_avx2;
    table->select_row = select_row_avx2;
    table->delta = delta_avx2;
    table->of[NABLA_FP32].block_mean = block_mean_fp32_avx2;
    table->of[NABLA_FP32].forward.pack_k = pack_k_fp32_avx2;
    table->of[NABLA_FP32].forward.pack_v = pack_v_fp32_avx2;
    table->of[NABLA_FP32].forward.run = forward_fp32_avx2;
    table->of[NABLA_FP32].backward_kv = backward_kv_fp32_avx2;
    table->of[NABLA_FP32].backward_q = backward_q_fp32_avx2;
    table->of[NABLA_BF16].block_mean = block_mean_bf16_avx2;
    table->of[NABLA_BF16].forward.pack_k = pack_k_bf16_avx2;
    table->of[NABLA_BF16].forward.pack_v = pack_v_bf16_avx2;
    table->of[NABLA_BF16].forward.run = forward_bf16_avx2;
    table->of[NABLA_BF16].backward_kv = backward_kv_bf16_avx2;
    table->of[NABLA_BF16].backward_q = backward_q_bf16_avx2;
    for (int type = 0; type < NABLA_CPU_DTYPES; type++) {
        table->of[type].forward.packed_size = packed_size;
        table->of[type].forward.scratch = forward_scratch_size;
        table->of[type].backward_scratch = backward_scratch_size;
        table->of[type].ds_size = DS_SIZE;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Level amx: bf16 attention and the scores of block means in tiles (Intel Xeons from Sapphire Rapids on). Everything
   else stays as the levels below have it: fp32, and what is not a product of blocks. */
#include "amx.h"

static NABLA_DECL_PACK(pack_k_amx) {
    amx_pack_dims(x, NABLA_BF16, first, last - first, head_dim, packed_panel(packed, piece, head_dim));
}
static NABLA_DECL_PACK(pack_v_amx) {
    amx_pack_tokens(x, NABLA_BF16, first, last - first, head_dim, 16, packed_panel(packed, piece, head_dim));
}
static size_t packed_size_amx(int64_t pieces, int32_t dim) {
    return (size_t)pieces * packed_panel_bytes(dim);
}

void nabla_kernels_amx(nabla_kernels *table) {
    table->score.put_key = amx_put_key;
    table->score.keys_size = amx_score_keys;
    table->score.products = amx_score_rows;
    table->score.rows = NABLA_SCORE_ROWS;
    table->of[NABLA_BF16].forward.pack_k = pack_k_amx;
    table->of[NABLA_BF16].forward.pack_v = pack_v_amx;
    table->of[NABLA_BF16].forward.packed_size = packed_size_amx;
    table->of[NABLA_BF16].forward.run = amx_forward;
    table->of[NABLA_BF16].forward.scratch = amx_forward_scratch;
    table->of[NABLA_BF16].forward.together = NABLA_FORWARD_TOGETHER;
    table->of[NABLA_BF16].pack_queries = amx_pack_queries;
    table->of[NABLA_BF16].pack_keys = amx_pack_keys;
    table->of[NABLA_BF16].packed_queries = amx_packed_queries;
    table->of[NABLA_BF16].packed_keys = amx_packed_keys;
    table->of[NABLA_BF16].backward_kv = amx_backward_kv;
    table->of[NABLA_BF16].backward_q = amx_backward_q;
    table->of[NABLA_BF16].backward_together = NABLA_MOST_TOGETHER;
    table->of[NABLA_BF16].backward_scratch = amx_backward_scratch;
    table->of[NABLA_BF16].ds_size = PANEL * PANEL * sizeof(uint16_t);
}

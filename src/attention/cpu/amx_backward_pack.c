/* SPDX-License-Identifier: Apache-2.0 */
#include "amx_backward.h"

size_t amx_packed_queries(int64_t pieces, int32_t dim) {
    return (size_t)pieces * QUERY_FORMS * panel_bytes(dim);
}

size_t amx_packed_keys(int64_t pieces, int32_t dim) {
    return (size_t)pieces * KEY_FORMS * panel_bytes(dim);
}

NABLA_DECL_BACKWARD(amx_pack_queries) {
    const int32_t dim = task->head_dim;
    panel p;
    for (int32_t i = 0; queries_of(task, i, &p); i++) {
        amx_pack_rows(task->q, NABLA_BF16, p.first, p.n, dim, query_form(task, p.piece, Q_ROWS));
        amx_pack_cols(task->q, NABLA_BF16, p.first, p.n, dim, query_form(task, p.piece, Q_COLS));
        amx_pack_rows(task->d_o, task->d_o_dtype, p.first, p.n, dim, query_form(task, p.piece, DO_ROWS));
        amx_pack_cols(task->d_o, task->d_o_dtype, p.first, p.n, dim, query_form(task, p.piece, DO_COLS));
    }
}

NABLA_DECL_BACKWARD(amx_pack_keys) {
    const int32_t dim = task->head_dim;
    panel p;
    for (int32_t i = 0; keys_of(task, i, &p); i++) {
        amx_pack_dims(task->k, NABLA_BF16, p.first, p.n, dim, key_form(task, p.piece, K_DIMS));
        amx_pack_dims(task->v, NABLA_BF16, p.first, p.n, dim, key_form(task, p.piece, V_DIMS));
        amx_pack_tokens(task->k, NABLA_BF16, p.first, p.n, dim, 1, key_form(task, p.piece, K_TOKENS));
    }
}

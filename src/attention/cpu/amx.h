/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of level amx share: how tokens lie in tiles. A panel is up to PANEL consecutive tokens of one head; D
 * is padded to whole tiles (padded_dim). What lies past the panel's tokens or past D is zero. A tile is dense, TILE
 * bytes:
 *
 *     rows    [token / 16][d / 32]  16 tokens x 32 dims             A of a sum over D
 *     dims    [token / 16][d / 32]  16 pairs along D x 16 tokens    B of a sum over D; each tile is rows' transposed
 *     cols    [d / 16][token / 32]  16 dims x 32 tokens             A of a sum over tokens
 *     tokens  [d / 16][token / 32]  16 pairs of tokens x 16 dims    B of a sum over tokens; cols' transposed
 */
#ifndef NABLA_AMX_H
#define NABLA_AMX_H

#include "simd_avx512.h"
#include "tile_rows.h"
#include "tokens.h"

enum {
    PANEL = 64,
    TILE = 1024,           /* bytes */
    TILE_FLOATS = TILE / 4 /* of a C tile */
};

static inline int32_t padded_dim(int32_t dim) {
    return (int32_t)round_up(dim, 32);
}
/* Bytes of a panel in any of the four forms. */
static inline size_t panel_bytes(int32_t dim) {
    return (size_t)PANEL * (size_t)padded_dim(dim) * sizeof(uint16_t);
}
static inline char *panel_at(const void *packed, int32_t piece, int32_t dim) {
    return (char *)(uintptr_t)packed + (size_t)piece * panel_bytes(dim);
}

/* Of K and V for the forward kernel. Panels that are a power of two of blocks apart, as those above each other in
   neighbouring frames often are, would share their places in the caches: so they lie a little further apart. */
static inline size_t packed_panel_bytes(int32_t dim) {
    return panel_bytes(dim) / 16 * 17;
}
static inline char *packed_panel(const void *packed, int32_t piece, int32_t dim) {
    return (char *)(uintptr_t)packed + (size_t)piece * packed_panel_bytes(dim);
}

/* Rows [first, first + n) of x, as they are or rounded to bf16, in each form. */
void amx_pack_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out);
void amx_pack_dims(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out);
void amx_pack_cols(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out);
/* apart: of the tokens that make a pair, 1 or 16. */
void amx_pack_tokens(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, int32_t apart, void *out);

NABLA_DECL_PUT_KEY(amx_put_key);
NABLA_DECL_SCORE_ROWS(amx_score_rows);
size_t amx_score_keys(int64_t keys, int32_t head_dim);

NABLA_DECL_FORWARD(amx_forward);
size_t amx_forward_scratch(int32_t dim);

NABLA_DECL_BACKWARD(amx_pack_queries);
NABLA_DECL_BACKWARD(amx_pack_keys);
NABLA_DECL_BACKWARD(amx_backward_kv);
NABLA_DECL_BACKWARD(amx_backward_q);
size_t amx_packed_queries(int64_t pieces, int32_t dim);
size_t amx_packed_keys(int64_t pieces, int32_t dim);
size_t amx_backward_scratch(int32_t dim);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of level amx share: how tokens lie in tiles. A panel is up to PANEL consecutive tokens of one head; D
 * is padded to whole tiles (padded_dim). What lies past the panel's tokens or past D is zero. A tile is dense, TILE
 * bytes:
 *
 *     rows    [token / 16][d / 32]  16 tokens x 32 bf16             A of a sum over D
 *     dims    [token / 16][d / 32]  16 pairs along D x 16 tokens    B of a sum over D; each tile is rows' transposed
 *     tokens  [d / 16][token / 32]  16 pairs of tokens x 16 dims    B of a sum over tokens
 */
#ifndef NABLA_AMX_H
#define NABLA_AMX_H

#include "simd_avx512.h"
#include "tokens.h"

enum {
    PANEL = 64,
    TILE = 1024,           /* bytes */
    TILE_FLOATS = TILE / 4 /* of a C tile */
};

static inline int32_t padded_dim(int32_t dim) {
    return (int32_t)round_up(dim, 32);
}
/* Bytes of a panel in any of the three forms. */
static inline size_t panel_bytes(int32_t dim) {
    return (size_t)PANEL * (size_t)padded_dim(dim) * sizeof(uint16_t);
}
static inline char *panel_at(const void *packed, int32_t piece, int32_t dim) {
    return (char *)(uintptr_t)packed + (size_t)piece * panel_bytes(dim);
}

/* Rows [first, first + n) of x, as they are or rounded to bf16, in each form. */
void amx_pack_rows(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out);
void amx_pack_dims(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out);
void amx_pack_tokens(nabla_rows x, nabla_dtype type, int32_t first, int32_t n, int32_t dim, void *out);

NABLA_DECL_FORWARD(amx_forward);
size_t amx_forward_scratch(int32_t dim);

#endif

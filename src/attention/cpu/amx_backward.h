/* SPDX-License-Identifier: Apache-2.0 */
/* What the backward kernel in tiles reads, packed once a head in the forms that its products take: of queries Q and dO
   as rows and cols, of keys K as dims and tokens, V as dims. */
#ifndef NABLA_AMX_BACKWARD_H
#define NABLA_AMX_BACKWARD_H

#include "amx.h"

#include <stdbool.h>

enum { Q_ROWS, DO_ROWS, Q_COLS, DO_COLS, QUERY_FORMS };
enum { K_DIMS, V_DIMS, K_TOKENS, KEY_FORMS };

static inline char *query_form(const nabla_backward_task *t, int32_t piece, int form) {
    return panel_at(t->packed_q, piece * QUERY_FORMS + form, t->head_dim);
}

static inline char *key_form(const nabla_backward_task *t, int32_t piece, int form) {
    return panel_at(t->packed_k, (piece - t->first_k_piece) * KEY_FORMS + form, t->head_dim);
}

/* Up to 64 tokens of a block. */
typedef struct panel {
    int32_t first, n, piece;
} panel;

/* Panel i of a block; false past its last. */
static inline bool panel_of(const int32_t *offsets, const int32_t *pieces, int32_t block, int32_t i, panel *out) {
    const int32_t first = offsets[block] + i * PANEL, left = offsets[block + 1] - first;
    *out = (panel){.first = first, .n = left < PANEL ? left : PANEL, .piece = pieces[block] + i};
    return pieces[block] + i < pieces[block + 1];
}

static inline bool queries_of(const nabla_backward_task *t, int32_t i, panel *out) {
    return panel_of(t->q_offsets, t->q_pieces, t->block, i, out);
}

static inline bool keys_of(const nabla_backward_task *t, int32_t i, panel *out) {
    return panel_of(t->k_offsets, t->k_pieces, t->block, i, out);
}

#endif

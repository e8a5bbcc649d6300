/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU kernel table: what a level provides. forward.c, backward.c and score.c of cpu/ schedule and call; kernels
 * only compute. Each kernel does the work of one task on one thread, allocates nothing and keeps no state.
 *
 * Tables are filled in rising order (generic, avx2, avx512 ...): a level overrides the entries it does better and
 * inherits the rest. The prototype macros make every level declare the same functions.
 *
 * Rows: token t of a head is at base + t * stride (elements), D contiguous. `offsets` gives the blocks' first tokens.
 * A kernel must take blocks of any length (ragged, or longer than 64) and any D from 16 to 256 in steps of 8.
 */
#ifndef NABLA_KERNEL_H
#define NABLA_KERNEL_H

#include "nabla/nabla.h"

#define NABLA_Q_ROWS 64           /* most query rows in one forward task */
#define NABLA_FORWARD_TOGETHER 12 /* most forward tasks in one call */
#define NABLA_MOST_TOGETHER 8     /* most backward tasks in one call */
#define NABLA_SCORE_ROWS 32       /* most rows in one call for scores */
#define NABLA_SCORE_PANEL 16      /* keys side by side where lanes are keys: put_key_generic, [keys / 16][D][16] */
#define NABLA_SCORE_KEYS 32       /* key means come in multiples of these, the last ones zero */

typedef struct nabla_rows {
    const void *data; /* row 0 of this (batch, head) */
    int64_t stride;   /* elements between rows */
} nabla_rows;

/* Attention of q_count query rows over the listed key blocks. */
typedef struct nabla_forward_task {
    nabla_rows q; /* first row of the task's queries */
    int32_t q_count;
    nabla_rows k, v; /* row 0 of the head's keys and values */
    const int32_t *k_offsets;
    const int32_t *blocks; /* ascending */
    int32_t block_count;   /* 0: O = 0, LSE = -inf */
    int32_t head_dim;
    float scale, alpha, beta;
    void *o; /* first row of the task's output */
    int64_t o_stride;
    nabla_dtype o_dtype;
    float *lse;           /* [q_count] or NULL */
    const void *packed_k; /* this head's keys as pack_k made them; NULL where the level has no pack_k */
    const void *packed_v;
    const int32_t *k_pieces; /* [nk + 1]: block b was packed as pieces k_pieces[b] up to k_pieces[b + 1] */
    void *scratch;           /* forward_scratch bytes, 64-byte aligned, the thread's own */
    const struct nabla_forward_task *next; /* the next queries of the head, where the level takes several tasks in one
                                              call (together); NULL after the last */
} nabla_forward_task;

/* dK, dV of one key block over the query blocks that keep it (the transpose's column), and optionally dQ added up in
   place. Two passes make a deterministic backward: backward_kv with dq NULL, then backward_q; where one thread owns a
   head, backward_kv alone with dq set gives the same bits: both add a query row's contributions block by block in
   ascending order of keys. Where the order does not matter, each thread adds to a dq of its own. */
typedef struct nabla_backward_task {
    nabla_rows q, k, v, d_o; /* row 0 of the head */
    nabla_dtype d_o_dtype;
    const int32_t *q_offsets, *k_offsets;
    int32_t block;         /* the task's own block: of keys in backward_kv, of queries in backward_q */
    const int32_t *blocks; /* its partners, ascending */
    int32_t block_count;
    int32_t head_dim;
    float scale;
    float alpha;        /* d_o is multiplied by it */
    const float *lse;   /* [Sq] of the head */
    const float *delta; /* [Sq]: alpha * sum_d dO * O, from the delta kernel */
    float *dq;      /* [Sq, D] fp32 of the head (or the thread's share of it), stride D, zeroed by the caller: kernels
                       add dS K, which the caller multiplies by scale when all is there; NULL: leave out (backward_kv
                       only) */
    float *dk, *dv; /* backward_kv: written; [rows of the block, D], strides in elements: */
    int64_t dk_stride, dv_stride;
    void *ds; /* with ds, backward_kv keeps each pair's dS there (dq is NULL) and backward_q only adds dS K of what
                 it finds, in the same bits; blocks are then of at most 64 rows. NULL: not kept */
    const int32_t *ds_at;               /* [block_count]: partner i's dS lies at ds + ds_at[i] * ds_size bytes */
    const int32_t *q_pieces, *k_pieces; /* as k_pieces of nabla_forward_task */
    void *packed_q, *packed_k; /* this head's Q and dO, K and V as pack_queries and pack_keys made them; NULL where the
                                  level packs nothing */
    int32_t first_k_piece;     /* packed_k begins with it */
    void *scratch;             /* backward_scratch bytes, 64-byte aligned */
    const struct nabla_backward_task *next; /* backward_kv: the next block of keys, as in nabla_forward_task, of the
                                               same head and scratch */
} nabla_backward_task;

/* rows [first, last) -> their fp32 mean[D], summed in ascending order. */
#define NABLA_DECL_BLOCK_MEAN(name) void name(nabla_rows x, int32_t first, int32_t last, int32_t head_dim, float *mean)
/* Puts a key's mean [D] among those of its head, in the order in which the level's products read them. Called for
   several keys at once: what two of them write must be words of their own. */
#define NABLA_DECL_PUT_KEY(name) void name(const float *mean, int32_t key, int32_t head_dim, void *keys)
/* Rows of the score map before its softmax: scores[r][j] = scale * log2(e) * dot(q_mean[r], k_mean[j]). q_mean: [rows,
   D] contiguous. keys: as put_key left them, zero from n up to a multiple of NABLA_SCORE_KEYS. scores: [the level's
   rows] [stride], stride a multiple of NABLA_SCORE_KEYS >= n, 64-byte aligned; rows and columns past those asked for
   may be overwritten. */
#define NABLA_DECL_SCORE_ROWS(name)                                                                          \
    void name(const float *q_mean, int32_t rows, const void *keys, int32_t n, int32_t head_dim, float scale, \
              float *scores, int64_t stride)
/* A row of these to probabilities, in place. allowed: a bit a key, NULL: all; one whose bit is 0 has probability 0, and
   where nothing is allowed all are 0. */
#define NABLA_DECL_SCORE_SOFTMAX(name) void name(float *row, int32_t n, const uint64_t *allowed)
/* Sets in bits[] what `thr` of the row's mass keeps (see nabla_plan_build); returns the kept mass. bits has
   (n + 63) / 64 words and is overwritten. A row that holds a NaN keeps everything. */
#define NABLA_DECL_SELECT_ROW(name) double name(const float *probs, int32_t n, float thr, uint64_t *bits)
#define NABLA_DECL_FORWARD(name) void name(const nabla_forward_task *task)
#define NABLA_DECL_BACKWARD(name) void name(const nabla_backward_task *task)
/* delta[i] = alpha * dot(dO_i, O_i) for count rows. */
#define NABLA_DECL_DELTA(name)                                                                         \
    void name(nabla_rows o, nabla_dtype o_dtype, nabla_rows d_o, nabla_dtype d_o_dtype, int32_t count, \
              int32_t head_dim, float alpha, float *delta)
/* Packs rows [first, last) of one head for the forward kernel; called in parallel for disjoint pieces of at most 64
   rows: `first` is a block's first row or that plus a multiple of 64. Pieces are numbered in order of their rows. */
#define NABLA_DECL_PACK(name) \
    void name(nabla_rows x, int32_t first, int32_t last, int32_t head_dim, int32_t piece, void *packed)

typedef NABLA_DECL_BLOCK_MEAN((*nabla_block_mean_fn));
typedef NABLA_DECL_PUT_KEY((*nabla_put_key_fn));
typedef NABLA_DECL_SCORE_ROWS((*nabla_score_rows_fn));
typedef NABLA_DECL_SCORE_SOFTMAX((*nabla_score_softmax_fn));
typedef NABLA_DECL_SELECT_ROW((*nabla_select_row_fn));
typedef NABLA_DECL_FORWARD((*nabla_forward_fn));
typedef NABLA_DECL_BACKWARD((*nabla_backward_fn));
typedef NABLA_DECL_DELTA((*nabla_delta_fn));
typedef NABLA_DECL_PACK((*nabla_pack_fn));

enum { NABLA_CPU_DTYPES = 2 }; /* NABLA_FP32, NABLA_BF16 */

/* Forward kernels. */
typedef struct nabla_forward_kernels {
    nabla_forward_fn run;
    nabla_pack_fn pack_k, pack_v;                            /* NULL: the level reads rows as they are */
    size_t (*packed_size)(int64_t pieces, int32_t head_dim); /* bytes of one head's packed K (or V) */
    size_t (*scratch)(int32_t head_dim);
    /* How many tasks of neighbouring blocks a call takes at best, up to NABLA_FORWARD_TOGETHER, so that partners which
       several of them keep are read once; 0: one. A task's bits do not depend on its company. */
    int32_t together;
} nabla_forward_kernels;

/* Scores of block means. */
typedef struct nabla_score_kernels {
    nabla_put_key_fn put_key;
    size_t (*keys_size)(int64_t keys, int32_t head_dim); /* bytes of a head's, a multiple of 64; of whole
                                                            NABLA_SCORE_KEYS */
    nabla_score_rows_fn products;
    int32_t rows; /* a call of products takes at best and at most, up to NABLA_SCORE_ROWS */
    nabla_score_softmax_fn softmax;
} nabla_score_kernels;

typedef struct nabla_kernels {
    const char *level;
    nabla_score_kernels score;
    nabla_select_row_fn select_row;
    nabla_delta_fn delta;
    struct {
        nabla_block_mean_fn block_mean;
        nabla_forward_kernels forward;
        /* The products in 8 bits (int8.inc.h). A head's packed keys begin with room for a mean [D], fp32 and finite,
           that is there before pack_k is called and is taken off every key. */
        nabla_forward_kernels forward_int8;
        nabla_backward_fn backward_kv, backward_q;
        /* How many tasks of neighbouring blocks a call of backward_kv takes at best; see nabla_forward_kernels. */
        int32_t backward_together;
        size_t (*backward_scratch)(int32_t head_dim);
        size_t ds_size; /* bytes of a pair's dS, a multiple of 64; 0: the level cannot keep it */
        /* Pack what the backward kernels read of the task's own block, of queries or of keys, into packed_q or
           packed_k; called in parallel for different blocks. NULL: the kernels read rows as they are. */
        nabla_backward_fn pack_queries, pack_keys;
        size_t (*packed_queries)(int64_t pieces, int32_t head_dim); /* bytes of one head's */
        size_t (*packed_keys)(int64_t pieces, int32_t head_dim);
    } of[NABLA_CPU_DTYPES];
} nabla_kernels;

/* One a level: each overrides entries of a table that the levels below it have filled. */
void nabla_kernels_generic(nabla_kernels *table);
void nabla_kernels_avx2(nabla_kernels *table);
void nabla_kernels_avx512(nabla_kernels *table);
void nabla_kernels_avx512vnni(nabla_kernels *table);
void nabla_kernels_avx512bf16(nabla_kernels *table);
void nabla_kernels_amx(nabla_kernels *table);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward kernel in tiles: S = Q K^T, P = exp2(S - m), O += P V.
 *
 * The matrix unit takes 16 cycles for a product of tiles, in which the vector units can do about 16 operations: a
 * softmax costs about as much as the products around it, so the two must run at once. Work is cut into steps of 32
 * queries (a strip) by a panel of keys, and while step i's probabilities are made, row by row between the products,
 * the products are those of S of step i + 1 and of O += P V of step i - 1. Nothing that a phase writes is read before
 * the next phase, so that loads of tiles find their lines in the cache, not in the store queue.
 *
 * The softmax is that of forward.inc.h, but its reference m is the one from before this step. Sums of four
 * probabilities are made anyway: in the rare step in which one passes 2^8, some score is above m by more than 6 (in
 * log2 units); then m moves, O and the sums are scaled, and the step's probabilities are made again.
 */
#include "amx_products.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    STRIP = 32,       /* queries */
    STRIPS = 2,       /* a task */
    CHUNK_PANELS = 16 /* panels that one strip walks before the next one does: K and V stay in the second-level cache */
};
#define MOST_OF_FOUR 256.0f
#define MOVE_ABOVE 6.0f

/* 32 queries and what is known of them so far. */
typedef struct strip {
    float below[STRIP];                    /* -m */
    _Alignas(64) float sums[2][STRIP][VL]; /* of probabilities, by lane; `now` tells which is up to date */
    int32_t now;
    bool started;
    const char *q; /* rows: [2][padded D / 32] tiles */
    char *o;       /* [2][padded D / 16] tiles of floats */
} strip;

typedef struct scratch {
    float s[2][STRIP * PANEL];    /* tiles [2][4]: scores of this step and the next */
    uint16_t p[2][STRIP * PANEL]; /* rows [2][2]: probabilities of this step and the one before */
    strip strips[STRIPS];
    _Alignas(64) char tiles[]; /* Q, then O */
} scratch;

size_t amx_forward_scratch(int32_t dim) {
    return sizeof(scratch) + panel_bytes(dim) + PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

/* A strip by a panel. */
typedef struct step {
    strip *strip;
    const char *k, *v; /* dims, tokens */
    int32_t keys;
    float *s;
    uint16_t *p;
} step;

/* ---- softmax */

/* What a run of rows needs in registers. */
typedef struct softmax {
    const float *s;
    uint16_t *p;
    const float *below, *before;
    float *after;
    vf scale, top;     /* top: the largest sums of four probabilities */
    const char *ahead; /* a panel to fetch, a sixteenth with each row; NULL for none */
} softmax;

/* Rows [16 half, 16 half + 16) of a step. */
static inline softmax softmax_of(const step *x, int half, vf scale, vf top, const char *ahead) {
    strip *of = x->strip;
    return (softmax){.s = x->s + half * 4 * TILE_FLOATS,
                     .p = x->p + half * TILE,
                     .below = of->below + half * 16,
                     .before = of->sums[of->now][half * 16],
                     .after = of->sums[!of->now][half * 16],
                     .scale = scale,
                     .top = top,
                     .ahead = ahead};
}

/* One query by 64 keys. */
ALWAYS_INLINE void softmax_row(softmax *x) {
    const vf below = v_set1(*x->below);
    const vf a = v_fma(v_load(x->s), x->scale, below), b = v_fma(v_load(x->s + TILE_FLOATS), x->scale, below);
    const vf c = v_fma(v_load(x->s + 2 * TILE_FLOATS), x->scale, below);
    const vf d = v_fma(v_load(x->s + 3 * TILE_FLOATS), x->scale, below);
    const vf pa = v_exp2(a), pb = v_exp2(b), pc = v_exp2(c), pd = v_exp2(d);
    _mm512_store_si512(x->p, (__m512i)_mm512_cvtne2ps_pbh(pb, pa));
    _mm512_store_si512(x->p + TILE / 2, (__m512i)_mm512_cvtne2ps_pbh(pd, pc));
    const vf sum = v_add(v_add(pa, pb), v_add(pc, pd));
    x->top = v_max(sum, x->top);
    v_store(x->after, v_add(v_load(x->before), sum));
    x->s += VL;
    x->p += 32;
    x->below++;
    x->before += VL;
    x->after += VL;
}

static float *score_at(const step *x, int32_t row, int32_t key) {
    return x->s + (row / 16 * 4 + key / 16) * TILE_FLOATS + row % 16 * VL;
}

static float row_top(const step *x, int32_t row, float scale) {
    vf top = v_set1(-INFINITY);
    for (int32_t key = 0; key < PANEL; key += VL)
        top = v_max(v_mul(v_load(score_at(x, row, key)), v_set1(scale)), top);
    return v_top(top);
}

/* Keys that are none get no probability; the first step of a strip finds its m. */
static void begin_softmax(const step *x, float scale) {
    strip *of = x->strip;
    for (int32_t key = x->keys / VL * VL; key < PANEL; key += VL)
        for (int32_t row = 0; row < STRIP; row++)
            _mm512_mask_storeu_ps(score_at(x, row, key), (__mmask16)~first_lanes(x->keys - key > 0 ? x->keys - key : 0),
                                  v_set1(scale < 0 ? INFINITY : -INFINITY));
    if (of->started) return;
    of->started = true;
    for (int32_t row = 0; row < STRIP; row++)
        of->below[row] = -fmaxf(row_top(x, row, scale), -FLT_MAX);
}

/* All rows, as they lie. */
static vf softmax_rows(const step *x, vf scale, vf top) {
    for (int half = 0; half < 2; half++) {
        softmax run = softmax_of(x, half, scale, top, NULL);
        for (int row = 0; row < 16; row++)
            softmax_row(&run);
        top = run.top;
    }
    return top;
}

/* Moves m where a maximum has passed it, and everything that was measured by it. */
static void move_reference(const step *x, float scale, int32_t dim) {
    strip *of = x->strip;
    for (int32_t row = 0; row < STRIP; row++) {
        const float top = row_top(x, row, scale);
        if (!(top + of->below[row] > MOVE_ABOVE)) continue;
        const vf shrink = v_exp2(v_set1(-of->below[row] - top));
        of->below[row] = -top;
        float *sums = of->sums[of->now][row];
        v_store(sums, v_mul(v_load(sums), shrink));
        float *o = (float *)of->o + row / 16 * (padded_dim(dim) / VL) * TILE_FLOATS + row % 16 * VL;
        for (int32_t d = 0; d < dim; d += VL, o += TILE_FLOATS)
            v_store(o, v_mul(v_load(o), shrink));
    }
}

static void end_softmax(const step *x, vf top, vf scale, float scale_log2, int32_t dim) {
    if (v_above(top, v_set1(MOST_OF_FOUR))) {
        move_reference(x, scale_log2, dim);
        softmax_rows(x, scale, top);
    }
    x->strip->now = !x->strip->now;
}

/* ---- products, with rows of a softmax between them: `rows` of `run` for every two products */

ALWAYS_INLINE void some_rows(const int32_t depth, const int rows, softmax *run) {
    UNROLLED
    for (int i = 0; i < rows; i++) {
        softmax_row(run);
        if (!run->ahead) continue;
        UNROLLED
        for (int32_t line = 0; line < 4 * depth; line++)
            _mm_prefetch(run->ahead + line * 64, _MM_HINT_T1);
        run->ahead += depth * 256;
    }
}

ALWAYS_INLINE void scores(const int32_t depth, const int rows, const step *x, softmax *run) {
    SUM_OVER_DIMS(depth, x->strip->q, x->k, x->s, some_rows(depth, rows, run));
}

ALWAYS_INLINE void outputs(const int32_t depth, const int rows, const step *x, softmax *run) {
    ADD_OVER_TOKENS(depth, x->p, x->v, x->strip->o, (int64_t)depth * 2 * TILE, TILE, 64, some_rows(depth, rows, run));
}

/* The same with nothing between them, for the ends of a walk and for head sizes that are not specialised. */
static __attribute__((noinline)) void scores_alone(int32_t depth, const step *x) {
    softmax none = {0};
    scores(depth, 0, x, &none);
}

static __attribute__((noinline)) void outputs_alone(int32_t depth, const step *x) {
    softmax none = {0};
    outputs(depth, 0, x, &none);
}

/* ---- the walk over strips and panels */

typedef struct position {
    int32_t block, piece; /* of the task's list; of the block */
} position;

typedef struct walk {
    const nabla_forward_task *task;
    scratch *scratch;
    int32_t strips, strip, left; /* panels of this chunk to come */
    position at, chunk;
    int64_t count; /* steps so far */
} walk;

static bool at_end(const walk *w) {
    return w->at.block == w->task->block_count;
}

/* The next step; false at the end. */
static bool next_step(walk *w, step *out) {
    const nabla_forward_task *t = w->task;
    if (w->left == 0 || at_end(w)) {
        w->left = CHUNK_PANELS;
        if (w->strip + 1 < w->strips && (w->chunk.block != w->at.block || w->chunk.piece != w->at.piece)) {
            w->strip++;
            w->at = w->chunk;
        } else {
            w->strip = 0;
            w->chunk = w->at;
        }
        if (at_end(w)) return false;
    }
    const int32_t block = t->blocks[w->at.block], piece = t->k_pieces[block] + w->at.piece;
    const int32_t first = t->k_offsets[block] + w->at.piece * PANEL, left = t->k_offsets[block + 1] - first;
    *out = (step){.strip = w->scratch->strips + w->strip,
                  .k = panel_at(t->packed_k, piece, t->head_dim),
                  .v = panel_at(t->packed_v, piece, t->head_dim),
                  .keys = left < PANEL ? left : PANEL,
                  .s = w->scratch->s[w->count % 2],
                  .p = w->scratch->p[w->count % 2]};
    w->count++;
    w->left--;
    if (++w->at.piece == t->k_pieces[block + 1] - t->k_pieces[block]) w->at = (position){.block = w->at.block + 1};
    return true;
}

/* depth: padded D / 32. rows: how many rows of a softmax go with two products, so that all 16 of a phase do; 0: they go
   between the phases. Keys and values that no strip has walked yet are fetched two steps ahead. */
ALWAYS_INLINE void steps(const int32_t depth, const int rows, walk *w) {
    const int32_t dim = w->task->head_dim;
    const float scale_log2 = w->task->scale * LOG2_E;
    const vf scale = v_set1(scale_log2);
    step before = {0}, now, after = {0}, later = {0};
    if (!next_step(w, &now)) return;
    scores_alone(depth, &now);
    bool has_before = false, has_after = next_step(w, &after);
    for (;;) {
        const bool has_later = has_after && next_step(w, &later);
        vf top = v_zero();
        begin_softmax(&now, scale_log2);
        if (rows && has_before && has_after) {
            const bool fetch = has_later && later.strip == w->scratch->strips;
            softmax run = softmax_of(&now, 0, scale, top, fetch ? later.k : NULL);
            scores(depth, rows, &after, &run);
            run = softmax_of(&now, 1, scale, run.top, fetch ? later.v : NULL);
            outputs(depth, rows, &before, &run);
            top = run.top;
        } else {
            if (has_after) scores_alone(depth, &after);
            if (has_before) outputs_alone(depth, &before);
            top = softmax_rows(&now, scale, top);
        }
        end_softmax(&now, top, scale, scale_log2, dim);
        before = now;
        has_before = true;
        if (!has_after) break;
        now = after;
        after = later;
        has_after = has_later;
    }
    outputs_alone(depth, &before);
}

static void steps_64(walk *w) {
    steps(2, 2, w);
}
static void steps_128(walk *w) {
    steps(4, 1, w);
}
static void steps_any(walk *w) {
    steps(padded_dim(w->task->head_dim) / 32, 0, w);
}

/* ---- a task */

static void begin(const nabla_forward_task *t, scratch *x) {
    const int32_t dim = t->head_dim;
    char *q = x->tiles, *o = q + panel_bytes(dim);
    amx_pack_rows(t->q, NABLA_BF16, 0, t->q_count, dim, q);
    memset(o, 0, PANEL * (size_t)padded_dim(dim) * sizeof(float));
    for (int i = 0; i < STRIPS; i++) {
        strip *of = x->strips + i;
        *of = (strip){.q = q + (size_t)i * panel_bytes(dim) / STRIPS,
                      .o = o + (size_t)i * STRIP * (size_t)padded_dim(dim) * sizeof(float)};
        for (int row = 0; row < STRIP; row++)
            of->below[row] = FLT_MAX;
    }
}

/* O = beta O + alpha O / l, and LSE. */
static void finish(const nabla_forward_task *t, const scratch *x) {
    const nabla_rows out = {t->o, t->o_stride};
    for (int32_t r = 0; r < t->q_count; r++) {
        const strip *of = x->strips + r / STRIP;
        const int32_t row = r % STRIP;
        const float sum = v_sum(v_load(of->sums[of->now][row]));
        const bool some = !(sum == 0); /* else no key had a probability: all scores are -inf */
        const vf factor = v_set1(some ? t->alpha / sum : 0.0f), beta = v_set1(t->beta);
        const float *o = (const float *)of->o + row / 16 * (padded_dim(t->head_dim) / VL) * TILE_FLOATS + row % 16 * VL;
        char *to = (char *)(uintptr_t)row_at(out, t->o_dtype, r);
        for (int32_t d = 0; d < t->head_dim; d += VL, o += TILE_FLOATS) {
            const int32_t n = t->head_dim - d;
            vf y = some ? v_mul(v_load(o), factor) : v_zero();
            if (t->beta != 0) y = v_fma(beta, load_floats(to, t->o_dtype, d, n), y);
            store_floats(to, t->o_dtype, d, n, y);
        }
        if (t->lse) t->lse[r] = some ? -of->below[row] * LN_2 + logf(sum) : -INFINITY;
    }
}

NABLA_DECL_FORWARD(amx_forward) {
    static const tile_config config = FULL_TILES;
    scratch *x = task->scratch;
    walk w = {.task = task, .scratch = x, .strips = task->q_count > STRIP ? 2 : 1, .left = CHUNK_PANELS};
    begin(task, x);
    tile_configure(&config);
    if (task->head_dim == 64)
        steps_64(&w);
    else if (task->head_dim == 128)
        steps_128(&w);
    else
        steps_any(&w);
    tile_release();
    finish(task, x);
}

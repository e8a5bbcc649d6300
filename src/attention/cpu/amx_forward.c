/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward kernel in tiles: S = Q K^T, P = exp2(S - m), O += P V.
 *
 * All queries of the task walk its keys panel by panel, so that K and V come into the first-level cache once; O, which
 * is as large as both, is loaded, added to and stored once for CHUNK panels. The matrix unit takes 16 cycles for a
 * product of tiles and leaves the vector units half free: while the next panel's S is made, row by row between its
 * products, come the probabilities of this one. Nothing that a phase writes is read before the next phase, so that
 * loads of tiles find their lines in the cache, not in the store queue.
 *
 * The softmax is that of forward.inc.h, but its reference m is the one from before this panel. In the rare case that
 * some score is above it by more than 6 (in log2 units), m moves, O and the sums are scaled, and the panel's
 * probabilities are made again.
 */
#include "amx_products.h"
#include "amx_softmax.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    CHUNK = 2,
    LINES = 16 /* of K and V to fetch with every two products of S, which makes a panel of each */
};

typedef struct scratch {
    float s[2][PANEL * PANEL];             /* tiles [4][4]: scores of this panel and the next */
    uint16_t p[CHUNK][PANEL * PANEL];      /* rows [4][2] */
    float below[PANEL];                    /* -m */
    float start[PANEL];                    /* see softmax */
    _Alignas(64) float sums[2][PANEL][VL]; /* of probabilities, by lane; `now` of the walk tells which is up to date */
    _Alignas(64) char tiles[];             /* Q as rows, then O as [4][padded D / 16] */
} scratch;

size_t amx_forward_scratch(int32_t dim) {
    return sizeof(scratch) + panel_bytes(dim) + PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

typedef struct panel {
    const char *k, *v; /* dims, values */
    int32_t keys;
} panel;

/* A task on its way over its keys. */
typedef struct walk {
    const nabla_forward_task *task;
    scratch *at;
    char *q, *o;
    float scale;          /* in log2 units */
    int32_t block, piece; /* what comes next: of the task's list; of the block */
    const char *v[CHUNK]; /* panels whose P is made */
    int32_t waiting;      /* how many they are */
    int32_t now;          /* of sums */
    bool started, words;
} walk;

static bool next_panel(walk *w, panel *out) {
    const nabla_forward_task *t = w->task;
    if (w->block == t->block_count) return false;
    const int32_t block = t->blocks[w->block], piece = t->k_pieces[block] + w->piece;
    const int32_t left = t->k_offsets[block + 1] - t->k_offsets[block] - w->piece * PANEL;
    *out = (panel){.k = panel_at(t->packed_k, piece, t->head_dim),
                   .v = panel_at(t->packed_v, piece, t->head_dim),
                   .keys = left < PANEL ? left : PANEL};
    if (left > PANEL)
        w->piece++;
    else
        w->block++, w->piece = 0;
    return true;
}

/* ---- softmax */

static float *score_at(float *s, int32_t row, int32_t key) {
    return s + (row / 16 * 4 + key / 16) * TILE_FLOATS + row % 16 * VL;
}

static float row_top(float *s, int32_t row, float scale) {
    vf top = v_set1(-INFINITY);
    for (int32_t key = 0; key < PANEL; key += VL)
        top = v_max(v_mul(v_load(score_at(s, row, key)), v_set1(scale)), top);
    return v_top(top);
}

static void set_reference(walk *w, int32_t row, float m) {
    w->words = w->words && fabsf(m) < MOST_WORD_REFERENCE;
    w->at->below[row] = w->words ? -rintf(m * WORD_ONE) / WORD_ONE : -m;
}

static void set_starts(walk *w) {
    for (int32_t row = 0; row < PANEL; row++)
        w->at->start[row] = w->words ? word_start(w->at->below[row]) : w->at->below[row];
}

/* Keys that are none get no probability; the first panel finds m. */
static void begin_softmax(walk *w, float *s, int32_t keys) {
    for (int32_t key = keys / VL * VL; key < PANEL; key += VL)
        for (int32_t row = 0; row < PANEL; row++)
            _mm512_mask_storeu_ps(score_at(s, row, key), (__mmask16)~first_lanes(keys - key > 0 ? keys - key : 0),
                                  v_set1(w->scale < 0 ? INFINITY : -INFINITY));
    if (w->started) return;
    w->started = true;
    for (int32_t row = 0; row < PANEL; row++)
        set_reference(w, row, fmaxf(row_top(s, row, w->scale), -FLT_MAX));
    set_starts(w);
}

static inline softmax softmax_of(const walk *w, const float *s) {
    scratch *x = w->at;
    return (softmax){.s = s,
                     .p = (char *)x->p[w->waiting],
                     .start = x->start,
                     .before = x->sums[w->now],
                     .after = x->sums[!w->now],
                     .scale = v_set1(w->words ? w->scale * WORD_ONE : w->scale),
                     .top = v_zero(),
                     .word_top = _mm512_setzero_si512()};
}

/* Those that are left. Inlined, as what escapes to a call must lie in memory at every tile instruction. */
ALWAYS_INLINE void softmax_rows(const walk *w, softmax *run) {
    if (w->words)
        while (run->row < PANEL)
            softmax_row(true, run);
    else
        while (run->row < PANEL)
            softmax_row(false, run);
}

/* Moves m where a maximum has passed it, and everything that was measured by it. */
static void move_reference(walk *w, float *s) {
    const int32_t dim = w->task->head_dim, columns = padded_dim(dim) / VL;
    for (int32_t row = 0; row < PANEL; row++) {
        const float top = row_top(s, row, w->scale), below = w->at->below[row];
        if (!(top + below > MOVE_ABOVE)) continue;
        set_reference(w, row, top);
        const vf shrink = v_exp2(v_set1(w->at->below[row] - below));
        float *sums = w->at->sums[w->now][row];
        v_store(sums, v_mul(v_load(sums), shrink));
        float *o = (float *)w->o + row / 16 * columns * TILE_FLOATS + row % 16 * VL;
        for (int32_t d = 0; d < dim; d += VL, o += TILE_FLOATS)
            v_store(o, v_mul(v_load(o), shrink));
    }
    set_starts(w);
}

/* ---- products */

enum { NONE, FLOATS, WORDS };

ALWAYS_INLINE void some_rows(const int kind, const int rows, const int lines, softmax *run, panel *ahead) {
    UNROLLED
    for (int i = 0; kind && i < rows; i++)
        softmax_row(kind == WORDS, run);
    if (!lines || !ahead->k) return;
    UNROLLED
    for (int i = 0; i < lines / 2; i++) {
        _mm_prefetch(ahead->k + i * 64, _MM_HINT_T1);
        _mm_prefetch(ahead->v + i * 64, _MM_HINT_T1);
    }
    ahead->k += lines * 32;
    ahead->v += lines * 32;
}

/* S of a panel. Amid every two products come `rows` of `run`, and a part of the panel `ahead` is fetched. */
ALWAYS_INLINE void scores(const int32_t depth, const int kind, const int rows, const int lines, const walk *w,
                          const char *k, float *s, softmax *run, panel *ahead) {
    char *to = NULL, *c = (char *)s;
    const char *const low = w->q, *const high = low + 2 * (int64_t)depth * TILE;
    for (int column = 0; column < 4; column++, k += depth * TILE, c += TILE) {
        tile_zero(0);
        tile_zero(1);
        PAIR_STEPS(0, 1, 2, 3, depth, k + i_ * TILE, low + i_ * TILE, low + (depth + i_) * TILE, to, 4 * TILE,
                   some_rows(kind, rows, lines, run, ahead))
        to = c;
        tile_zero(2);
        tile_zero(3);
        PAIR_STEPS(2, 3, 0, 1, depth, k + i_ * TILE, high + i_ * TILE, high + (depth + i_) * TILE, to, 4 * TILE,
                   some_rows(kind, rows, lines, run, ahead))
        to = c + 8 * TILE;
    }
    tile_store(2, to, 64);
    tile_store(3, to + 4 * TILE, 64);
}

/* O += P V of `count` panels. */
ALWAYS_INLINE void add_panels(const int32_t depth, const int count, walk *w) {
    const char *p = (const char *)w->at->p;
    const int64_t second = (int64_t)2 * depth * TILE;
    char *to = NULL, *c = w->o;
    for (int32_t column = 0; column < 2 * depth; column++, c += TILE) {
        const char *v[CHUNK];
        for (int i = 0; i < count; i++)
            v[i] = w->v[i] + (int64_t)column * 2 * TILE;
        tile_load(0, c, 64);
        tile_load(1, c + second, 64);
        PAIR_STEPS(0, 1, 2, 3, 2 * count, v[i_ / 2] + i_ % 2 * TILE, p + (i_ / 2 * 8 + i_ % 2) * TILE,
                   p + (i_ / 2 * 8 + 2 + i_ % 2) * TILE, to, second, (void)0)
        to = c;
        tile_load(2, c + 2 * second, 64);
        tile_load(3, c + 3 * second, 64);
        PAIR_STEPS(2, 3, 0, 1, 2 * count, v[i_ / 2] + i_ % 2 * TILE, p + (i_ / 2 * 8 + 4 + i_ % 2) * TILE,
                   p + (i_ / 2 * 8 + 6 + i_ % 2) * TILE, to, second, (void)0)
        to = c + 2 * second;
    }
    tile_store(2, to, 64);
    tile_store(3, to + second, 64);
}

ALWAYS_INLINE void outputs(const int32_t depth, walk *w) {
    if (w->waiting == CHUNK)
        add_panels(depth, CHUNK, w);
    else if (w->waiting == 1)
        add_panels(depth, 1, w);
    w->waiting = 0;
}

static __attribute__((noinline)) void scores_alone(int32_t depth, const walk *w, const char *k, float *s) {
    scores(depth, NONE, 0, 0, w, k, s, NULL, NULL);
}

static __attribute__((noinline)) void outputs_alone(int32_t depth, walk *w) {
    outputs(depth, w);
}

/* depth: padded D / 32. rows: how many rows of a softmax go with two products of S, so that all 64 do; 0: they go
   between the phases. */
ALWAYS_INLINE void steps(const int32_t depth, const int rows, walk *w) {
    panel now, next = {0}, later = {0};
    if (!next_panel(w, &now)) return;
    scores_alone(depth, w, now.k, w->at->s[0]);
    bool has_next = next_panel(w, &next);
    for (int turn = 0;; turn = !turn) {
        const bool has_later = has_next && next_panel(w, &later);
        float *s = w->at->s[turn], *s_next = w->at->s[!turn];
        begin_softmax(w, s, now.keys);
        softmax run = softmax_of(w, s);
        panel ahead = has_later ? later : (panel){0};
        if (has_next && !rows)
            scores_alone(depth, w, next.k, s_next);
        else if (has_next && w->words)
            scores(depth, WORDS, rows, LINES, w, next.k, s_next, &run, &ahead);
        else if (has_next)
            scores(depth, FLOATS, rows, LINES, w, next.k, s_next, &run, &ahead);
        softmax_rows(w, &run);
        if (passed(&run)) {
            outputs_alone(depth, w);
            move_reference(w, s);
            run = softmax_of(w, s);
            softmax_rows(w, &run);
        }
        w->now = !w->now;
        w->v[w->waiting++] = now.v;
        if (w->waiting == CHUNK || !has_next) outputs(depth, w);
        if (!has_next) return;
        now = next;
        next = later;
        has_next = has_later;
    }
}

static void steps_64(walk *w) {
    steps(2, 4, w);
}
static void steps_128(walk *w) {
    steps(4, 2, w);
}
static void steps_any(walk *w) {
    steps(padded_dim(w->task->head_dim) / 32, 0, w);
}

/* ---- a task */

static walk begin(const nabla_forward_task *t) {
    const int32_t dim = t->head_dim;
    scratch *x = t->scratch;
    walk w = {.task = t,
              .at = x,
              .q = x->tiles,
              .o = x->tiles + panel_bytes(dim),
              .scale = t->scale * LOG2_E,
              .words = !t->lse};
    amx_pack_rows(t->q, NABLA_BF16, 0, t->q_count, dim, w.q);
    memset(w.o, 0, PANEL * (size_t)padded_dim(dim) * sizeof(float));
    memset(x->sums[0], 0, sizeof x->sums[0]);
    return w;
}

/* O = beta O + alpha O / l, and LSE. */
static void finish(const walk *w) {
    const nabla_forward_task *t = w->task;
    const nabla_rows out = {t->o, t->o_stride};
    const int32_t columns = padded_dim(t->head_dim) / VL;
    for (int32_t r = 0; r < t->q_count; r++) {
        const float sum = v_sum(v_load(w->at->sums[w->now][r]));
        const bool some = !(sum == 0); /* else no key had a probability: all scores are -inf */
        const vf factor = v_set1(some ? t->alpha / sum : 0.0f), beta = v_set1(t->beta);
        const float *o = (const float *)w->o + r / 16 * columns * TILE_FLOATS + r % 16 * VL;
        char *to = (char *)(uintptr_t)row_at(out, t->o_dtype, r);
        for (int32_t d = 0; d < t->head_dim; d += VL, o += TILE_FLOATS) {
            const int32_t n = t->head_dim - d;
            vf y = some ? v_mul(v_load(o), factor) : v_zero();
            if (t->beta != 0) y = v_fma(beta, load_floats(to, t->o_dtype, d, n), y);
            store_floats(to, t->o_dtype, d, n, y);
        }
        if (t->lse) t->lse[r] = some ? -w->at->below[r] * LN_2 + logf(sum) : -INFINITY;
    }
}

NABLA_DECL_FORWARD(amx_forward) {
    static const tile_config config = FULL_TILES;
    walk w = begin(task);
    tile_configure(&config);
    if (task->head_dim == 64)
        steps_64(&w);
    else if (task->head_dim == 128)
        steps_128(&w);
    else
        steps_any(&w);
    tile_release();
    finish(&w);
}

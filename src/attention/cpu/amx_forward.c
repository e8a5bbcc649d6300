/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward kernel in tiles: S = Q K^T, P = exp2(S - m), O += P V.
 *
 * Pairs of up to 64 queries and a panel of keys come one after another, of neighbouring query blocks in turn (see
 * amx_walk.h). O, which is as large as K and V of a panel, is loaded, added to and stored once for CHUNK panels. The
 * matrix unit takes 16 cycles for a product of tiles and leaves the vector units half free: while the next pair's S is
 * made and the chunk before is added to O, row by row between their products, come the probabilities of this pair.
 * Nothing that a phase writes is read before the next phase, so that loads of tiles find their lines in the cache, not
 * in the store queue.
 *
 * The softmax is that of forward.inc.h, but its reference m is the one from before this panel. In the rare case that
 * some score is above it by more than 6 (in log2 units), m moves, O and the sums are scaled, and the panel's
 * probabilities are made again.
 */
#include "amx_products.h"
#include "amx_softmax.h"
#include "amx_walk.h"

#include <float.h>
#include <math.h>

enum {
    CHUNK = 2,
    WINDOW = 8 /* panels of K and V: two windows at D = 128 are 512 KB, and as many queries with their sums 270 KB */
};

/* A query block's. */
typedef struct statistics {
    float below[PANEL]; /* -m */
    _Alignas(
        64) float sums[2][PANEL][VL]; /* of probabilities, by lane; `now` of the member tells which is up to date */
} statistics;

typedef struct scratch {
    float s[2][PANEL * PANEL];           /* tiles [4][4]: scores of this pair and the next */
    uint16_t p[2][CHUNK][PANEL * PANEL]; /* rows [4][2]: of the chunk at hand and the one before */
    statistics of[TOGETHER];
    _Alignas(64) char tiles[]; /* of each member Q as rows, then O as [4][padded D / 16] */
} scratch;

static size_t member_bytes(int32_t dim) {
    return panel_bytes(dim) + PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

size_t amx_forward_scratch(int32_t dim) {
    return sizeof(scratch) + TOGETHER * member_bytes(dim);
}

/* A query block on its way over its keys. */
typedef struct member {
    const nabla_forward_task *task;
    statistics *of;
    char *q, *o;
    int32_t now; /* of sums */
    bool started;
} member;

/* Panels of one member whose P is made. */
typedef struct chunk {
    char *o;
    const uint16_t (*p)[PANEL * PANEL];
    const char *v[CHUNK];
    int32_t panels, columns; /* columns: of tiles of O that have been added to already */
} chunk;

typedef struct walk {
    pair_walk pairs;
    member members[TOGETHER];
    scratch *at;
    float scale; /* in log2 units */
    int32_t dim;
    chunk before, now; /* to be added to O; being made */
    int32_t turn;      /* of at->p, for `now` */
} walk;

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

/* Keys that are none get no probability; the first panel finds m. */
static void begin_softmax(const walk *w, member *m, float *s, int32_t keys) {
    for (int32_t key = keys / VL * VL; key < PANEL; key += VL)
        for (int32_t row = 0; row < PANEL; row++)
            _mm512_mask_storeu_ps(score_at(s, row, key), (__mmask16)~first_lanes(keys - key > 0 ? keys - key : 0),
                                  v_set1(w->scale < 0 ? INFINITY : -INFINITY));
    if (m->started) return;
    m->started = true;
    for (int32_t row = 0; row < PANEL; row++)
        m->of->below[row] = -fmaxf(row_top(s, row, w->scale), -FLT_MAX);
}

static inline softmax softmax_of(const walk *w, const member *m, const float *s) {
    return (softmax){.s = s,
                     .p = (char *)w->at->p[w->turn][w->now.panels],
                     .below = m->of->below,
                     .before = m->of->sums[m->now],
                     .after = m->of->sums[!m->now],
                     .scale = v_set1(w->scale),
                     .top = v_zero()};
}

/* Those that are left. Inlined, as what escapes to a call must lie in memory at every tile instruction. */
ALWAYS_INLINE void softmax_rows(softmax *run) {
    while (run->row < PANEL)
        softmax_row(run);
}

/* Moves m where a maximum has passed it, and everything that was measured by it. */
static void move_reference(const walk *w, member *m, float *s) {
    const int32_t columns = padded_dim(w->dim) / VL;
    for (int32_t row = 0; row < PANEL; row++) {
        const float top = row_top(s, row, w->scale), below = m->of->below[row];
        if (!(top + below > MOVE_ABOVE)) continue;
        m->of->below[row] = -top;
        const vf shrink = v_exp2(v_set1(-top - below));
        float *sums = m->of->sums[m->now][row];
        v_store(sums, v_mul(v_load(sums), shrink));
        float *o = (float *)m->o + row / 16 * columns * TILE_FLOATS + row % 16 * VL;
        for (int32_t d = 0; d < w->dim; d += VL, o += TILE_FLOATS)
            v_store(o, v_mul(v_load(o), shrink));
    }
}

/* ---- products */

/* What is fetched with a pair: `lines` of each with every two products of S. */
typedef struct stream {
    const char *k, *v;
    int32_t lines;
} stream;

static const char *k_of(const walk *w, int32_t piece) {
    return panel_at(w->members[0].task->packed_k, piece, w->dim);
}
static const char *v_of(const walk *w, int32_t piece) {
    return panel_at(w->members[0].task->packed_v, piece, w->dim);
}

static stream next_stream(walk *w) {
    const ahead a = next_ahead(&w->pairs);
    const size_t from = panel_bytes(w->dim) / WHOLE_LINES * (size_t)a.from;
    return (stream){k_of(w, a.piece) + from, v_of(w, a.piece) + from, a.lines};
}

ALWAYS_INLINE void some_rows(const int rows, softmax *run) {
    UNROLLED
    for (int i = 0; i < rows; i++)
        softmax_row(run);
}

ALWAYS_INLINE void fetch_some(stream *x) {
    for (int32_t i = 0; i < x->lines; i++, x->k += 64, x->v += 64) {
        _mm_prefetch(x->k, _MM_HINT_T1);
        _mm_prefetch(x->v, _MM_HINT_T1);
    }
}

/* S of q by the keys k. Amid every two products come `rows` of `run`, and what is to be fetched meanwhile. */
ALWAYS_INLINE void scores(const int32_t depth, const int rows, const char *q, const char *k, float *s, softmax *run,
                          stream *fetch) {
    SUM_OVER_DIMS(depth, q, k, s, some_rows(rows, run); if (rows) fetch_some(fetch));
}

static __attribute__((noinline)) void scores_alone(int32_t depth, const char *q, const char *k, float *s) {
    scores(depth, 0, q, k, s, NULL, NULL);
}

/* The next `columns` columns of O += P V, and `rows` of `run` amid every two products. */
ALWAYS_INLINE void outputs(const int32_t panels, const int32_t columns, const int32_t depth, const int rows, chunk *c,
                           softmax *run) {
    const operands x = {.a = (const char *)c->p,
                        .b = c->v[0] + c->columns * 2 * TILE,
                        .a_panel = sizeof *c->p,
                        .b_panel = c->v[panels - 1] - c->v[0],
                        .c = c->o + c->columns * TILE,
                        .second = (int64_t)2 * depth * TILE,
                        .step = TILE,
                        .stride = 64};
    ADD_BY_COLUMNS(columns, panels, x, some_rows(rows, run));
    c->columns += columns;
}

static __attribute__((noinline)) void outputs_alone(int32_t depth, chunk *c) {
    const int32_t left = 2 * depth - c->columns;
    if (c->panels == CHUNK)
        outputs(CHUNK, left, depth, 0, c, NULL);
    else
        outputs(1, left, depth, 0, c, NULL);
}

/* Adds what is left of a chunk, which is then empty. */
static inline void empty(int32_t depth, chunk *c) {
    if (c->panels && c->columns < 2 * depth) outputs_alone(depth, c);
    c->panels = c->columns = 0;
}

/* The chunk at hand takes a panel; `last`: it is its member's last of the window. */
static inline void take_panel(int32_t depth, walk *w, const member *m, const char *v, bool last) {
    w->now.o = m->o;
    w->now.p = w->at->p[w->turn];
    w->now.v[w->now.panels++] = v;
    if (w->now.panels < CHUNK && !last) return;
    empty(depth, &w->before);
    w->before = w->now;
    w->now.panels = 0;
    w->turn = !w->turn;
}

/* depth: padded D / 32. rows: how many rows of a softmax go with two products of S, or of half the columns of O for a
   chunk, so that in both half of them do; 0: they go between the phases. */
ALWAYS_INLINE void steps(const int32_t depth, const int rows, walk *w) {
    pair now, next = {0};
    if (!next_pair(&w->pairs, &now)) return;
    scores_alone(depth, w->members[now.member].q, k_of(w, now.piece), w->at->s[0]);
    for (int turn = 0;; turn = !turn) {
        const bool more = next_pair(&w->pairs, &next);
        member *m = w->members + now.member;
        float *s = w->at->s[turn], *s_next = w->at->s[!turn];
        begin_softmax(w, m, s, now.n);
        softmax run = softmax_of(w, m, s);
        stream fetch = next_stream(w);
        if (more && rows)
            scores(depth, rows, w->members[next.member].q, k_of(w, next.piece), s_next, &run, &fetch);
        else if (more)
            scores_alone(depth, w->members[next.member].q, k_of(w, next.piece), s_next);
        if (more && rows && w->before.panels == CHUNK && w->before.columns < 2 * depth)
            outputs(CHUNK, depth, depth, rows, &w->before, &run);
        softmax_rows(&run);
        if (passed(&run)) {
            empty(depth, &w->before);
            empty(depth, &w->now);
            move_reference(w, m, s);
            run = softmax_of(w, m, s);
            softmax_rows(&run);
        }
        m->now = !m->now;
        take_panel(depth, w, m, v_of(w, now.piece), !more || next.member != now.member);
        if (!more) break;
        now = next;
    }
    empty(depth, &w->before);
}

static void steps_64(walk *w) {
    steps(2, 2, w);
}
static void steps_128(walk *w) {
    steps(4, 1, w);
}
static void steps_any(walk *w) {
    steps(padded_dim(w->dim) / 32, 0, w);
}

/* ---- tasks */

static walk begin(const nabla_forward_task *tasks) {
    const int32_t dim = tasks->head_dim;
    scratch *x = tasks->scratch;
    walk w = {.pairs = {.offsets = tasks->k_offsets, .pieces = tasks->k_pieces, .window_panels = WINDOW},
              .at = x,
              .scale = tasks->scale * LOG2_E,
              .dim = dim};
    for (const nabla_forward_task *t = tasks; t; t = t->next) {
        const int32_t i = w.pairs.members;
        char *q = x->tiles + (size_t)i * member_bytes(dim), *o = q + panel_bytes(dim);
        w.members[i] = (member){.task = t, .of = x->of + i, .q = q, .o = o};
        add_member(&w.pairs, t->blocks, t->block_count);
        amx_pack_rows(t->q, NABLA_BF16, 0, t->q_count, dim, q);
        memset(o, 0, PANEL * (size_t)padded_dim(dim) * sizeof(float));
        memset(x->of[i].sums[0], 0, sizeof x->of[i].sums[0]);
    }
    return w;
}

/* O = beta O + alpha O / l, and LSE. */
static void finish(const member *m) {
    const nabla_forward_task *t = m->task;
    const nabla_rows out = {t->o, t->o_stride};
    const int32_t columns = padded_dim(t->head_dim) / VL;
    for (int32_t r = 0; r < t->q_count; r++) {
        const float sum = v_sum(v_load(m->of->sums[m->now][r]));
        const bool some = !(sum == 0); /* else no key had a probability: all scores are -inf */
        const vf factor = v_set1(some ? t->alpha / sum : 0.0f), beta = v_set1(t->beta);
        const float *o = (const float *)m->o + r / 16 * columns * TILE_FLOATS + r % 16 * VL;
        char *to = (char *)(uintptr_t)row_at(out, t->o_dtype, r);
        for (int32_t d = 0; d < t->head_dim; d += VL, o += TILE_FLOATS) {
            const int32_t n = t->head_dim - d;
            vf y = some ? v_mul(v_load(o), factor) : v_zero();
            if (t->beta != 0) y = v_fma(beta, load_floats(to, t->o_dtype, d, n), y);
            store_floats(to, t->o_dtype, d, n, y);
        }
        if (t->lse) t->lse[r] = some ? -m->of->below[r] * LN_2 + logf(sum) : -INFINITY;
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
    for (int32_t i = 0; i < w.pairs.members; i++)
        finish(w.members + i);
}

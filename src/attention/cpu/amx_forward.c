/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward kernel in tiles: S = Q K^T, P = exp2(S - m), O += P V.
 *
 * Pairs of up to 64 queries and a panel of keys come one after another, of neighbouring query blocks in turn (see
 * amx_walk.h). What a pair touches is several times the first-level cache, so little of it is kept there, and each for
 * long: S of a strip of 16 queries and of the next one; P of CHUNK panels, for which O, as large as K and V of a panel,
 * is loaded, added to and stored once. The matrix unit takes 16 cycles for a product of tiles and leaves the vector
 * units half free: while the next strip's S is made, row by row between its products, come the probabilities of this
 * strip. Nothing that a phase writes is read before the next phase, so that loads of tiles find their lines in the
 * cache, not in the store queue.
 *
 * The softmax is that of forward.inc.h, but its reference m is the one from before this strip. In the rare case that
 * some score is above it by more than 6 (in log2 units), m moves, O and the sums are scaled, and the strip's
 * probabilities are made again.
 */
#include "amx_products.h"
#include "amx_softmax.h"
#include "amx_walk.h"

#include <float.h>
#include <math.h>

/* Rows of a strip's softmax amid every two products of the next one's S; 0: after them. At D = 64 there are too few
   products to hide it: apart it was 8 % faster on a Xeon. bench/ compares both ways. */
#ifndef AMX_ROWS_64
#define AMX_ROWS_64 0
#endif
#ifndef AMX_ROWS_128
#define AMX_ROWS_128 2
#endif

enum {
    CHUNK = 4, /* panels */
    WINDOW = 8 /* panels of K and V: two windows at D = 128 are 512 KB, and as many queries with their sums 270 KB */
};

/* A query block's. */
typedef struct statistics {
    float below[PANEL];                 /* -m */
    _Alignas(64) float sums[PANEL][VL]; /* of probabilities, by lane */
} statistics;

typedef struct scratch {
    strip_scores s[2];                /* of this strip and the next */
    float before[STRIP][VL];          /* this strip's sums without it */
    uint16_t p[CHUNK][PANEL * PANEL]; /* rows [4][2] */
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
    bool started;
} member;

/* Panels of one member whose P is made and not yet added to O. */
typedef struct chunk {
    const char *p[CHUNK], *v[CHUNK];
    int32_t panels, first; /* first: where in scratch its first panel's P lies */
} chunk;

typedef struct walk {
    pair_walk pairs;
    member members[TOGETHER];
    scratch *at;
    float scale; /* in log2 units */
    int32_t dim;
    chunk chunk;
} walk;

/* ---- softmax */

static float row_top(const strip_scores *s, int32_t row, float scale) {
    vf top = v_set1(-INFINITY);
    for (int32_t i = 0; i < 4; i++)
        top = v_max(v_mul(v_load(s->tiles[i] + row * VL), v_set1(scale)), top);
    return v_top(top);
}

/* Keys that are none get no probability; the first panel finds m. */
static void begin_strip(const walk *w, member *m, int32_t strip, strip_scores *s, int32_t keys) {
    for (int32_t i = keys / VL; i < 4; i++)
        for (int32_t row = 0; row < STRIP; row++)
            _mm512_mask_storeu_ps(s->tiles[i] + row * VL, (__mmask16)~first_lanes(keys > i * VL ? keys - i * VL : 0),
                                  v_set1(w->scale < 0 ? INFINITY : -INFINITY));
    if (m->started) return;
    for (int32_t row = 0; row < STRIP; row++)
        m->of->below[strip * STRIP + row] = -fmaxf(row_top(s, row, w->scale), -FLT_MAX);
}

/* Where P of the pair at hand goes. */
static inline char *p_of(const walk *w) {
    return (char *)w->at->p[w->chunk.first + w->chunk.panels];
}

static inline softmax softmax_of(const walk *w, const member *m, int32_t strip, const strip_scores *s) {
    return (softmax){.s = s->tiles[0],
                     .p = p_of(w) + strip * 2 * TILE,
                     .below = m->of->below + strip * STRIP,
                     .sums = m->of->sums + strip * STRIP,
                     .before = w->at->before,
                     .scale = v_set1(w->scale),
                     .top = v_zero()};
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

ALWAYS_INLINE void fetch_some(stream *x) {
    for (int32_t i = 0; i < x->lines; i++, x->k += 64, x->v += 64) {
        _mm_prefetch(x->k, _MM_HINT_T1);
        _mm_prefetch(x->v, _MM_HINT_T1);
    }
}

/* S of a strip q by the keys k. Amid every two products come `rows` of `run`, and what is to be fetched meanwhile.
   Inlined, as what escapes to a call must lie in memory at every tile instruction. */
ALWAYS_INLINE void scores(const int32_t depth, const int rows, const char *q, const char *k, strip_scores *s,
                          softmax *run, stream *fetch) {
    STRIP_OVER_DIMS(depth, q, k, s, softmax_rows(rows, run); if (rows) fetch_some(fetch));
}

static __attribute__((noinline)) void scores_alone(int32_t depth, const char *q, const char *k, strip_scores *s) {
    scores(depth, 0, q, k, s, NULL, NULL);
}

/* Adds the chunk to its member's O. It is then empty, and the pair at hand keeps its place. */
static __attribute__((noinline)) void empty(walk *w, const member *m) {
    const int32_t columns = padded_dim(w->dim) / VL, panels = w->chunk.panels;
    operands x = {.c = m->o, .second = (int64_t)columns * TILE, .step = TILE, .stride = 64};
    for (int32_t i = 0; i < panels; i++) {
        x.a[i] = w->chunk.p[i];
        x.b[i] = w->chunk.v[i];
    }
    if (panels) ADD_BY_COLUMNS(columns, panels, x);
    w->chunk.first += panels;
    w->chunk.panels = 0;
}

/* The chunk takes the pair at hand; `last`: it is its member's last of the window. */
static inline void take_panel(walk *w, const member *m, const char *v, bool last) {
    chunk *c = &w->chunk;
    c->p[c->panels] = p_of(w);
    c->v[c->panels++] = v;
    if (c->first + c->panels < CHUNK && !last) return;
    empty(w, m);
    c->first = 0;
}

/* Where a maximum in a strip has passed m: moves m and everything that was measured by it, and makes P again. */
static __attribute__((noinline)) void move_reference(walk *w, const member *m, int32_t strip, const strip_scores *s) {
    const int32_t columns = padded_dim(w->dim) / VL;
    empty(w, m);
    softmax run = softmax_of(w, m, strip, s);
    memcpy(run.sums, run.before, sizeof w->at->before);
    for (int32_t row = 0; row < STRIP; row++) {
        float *below = m->of->below + strip * STRIP + row;
        const float top = row_top(s, row, w->scale);
        if (!(top + *below > MOVE_ABOVE)) continue;
        const vf shrink = v_exp2(v_set1(-top - *below));
        *below = -top;
        v_store(run.sums[row], v_mul(v_load(run.sums[row]), shrink));
        float *o = (float *)m->o + strip * columns * TILE_FLOATS + row * VL;
        for (int32_t d = 0; d < w->dim; d += VL, o += TILE_FLOATS)
            v_store(o, v_mul(v_load(o), shrink));
    }
    softmax_rest(&run);
}

/* depth: padded D / 32. rows: how many rows of a softmax go with two products of the next strip's S, so that all do;
   0: they come after them. */
ALWAYS_INLINE void steps(const int32_t depth, const int rows, walk *w) {
    pair now, next = {0};
    if (!next_pair(&w->pairs, &now)) return;
    scores_alone(depth, w->members[now.member].q, k_of(w, now.piece), w->at->s);
    for (bool more = true; more; now = next) {
        member *m = w->members + now.member;
        more = next_pair(&w->pairs, &next);
        stream fetch = next_stream(w);
        for (int32_t strip = 0; strip < STRIPS; strip++) {
            strip_scores *s = w->at->s + strip % 2, *s_next = w->at->s + (strip + 1) % 2;
            const bool within = strip + 1 < STRIPS;
            const char *q = within ? m->q + (strip + 1) * depth * TILE : w->members[next.member].q;
            const char *k = k_of(w, within ? now.piece : next.piece);
            begin_strip(w, m, strip, s, now.n);
            softmax run = softmax_of(w, m, strip, s);
            if (rows && (within || more))
                scores(depth, rows, q, k, s_next, &run, &fetch);
            else if (within || more)
                scores_alone(depth, q, k, s_next);
            softmax_rest(&run);
            if (passed(&run)) move_reference(w, m, strip, s);
        }
        m->started = true;
        take_panel(w, m, v_of(w, now.piece), !more || next.member != now.member);
    }
}

static void steps_64(walk *w) {
    steps(2, AMX_ROWS_64, w);
}
static void steps_128(walk *w) {
    steps(4, AMX_ROWS_128, w);
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
        memset(x->of[i].sums, 0, sizeof x->of[i].sums);
    }
    return w;
}

/* O = beta O + alpha O / l, and LSE. */
static void finish(const member *m) {
    const nabla_forward_task *t = m->task;
    const nabla_rows out = {t->o, t->o_stride};
    const int32_t columns = padded_dim(t->head_dim) / VL;
    for (int32_t r = 0; r < t->q_count; r++) {
        const float sum = v_sum(v_load(m->of->sums[r]));
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

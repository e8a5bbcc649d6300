/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward kernel in tiles: S = Q K^T, P = exp2(S - m), O += P V.
 *
 * Pairs of up to 64 queries and a panel of keys come one after another, a panel's with several query blocks in turn
 * (see amx_walk.h). What a pair touches is several times the first-level cache, so little of it is kept there: K of a
 * panel for all that keep it; S of a strip of 16 queries and of the next one; P of CHUNK panels, for which O, as large
 * as K and V of a panel, is loaded, added to and stored once. The matrix unit takes 16 cycles for a product of tiles,
 * two loads of tiles and less than a store's share beside it are hidden: so S is made of two tiles at a time, each pair
 * stored amid the products of the next, the last amid those of the next strip, and O of squares of four. The vector
 * units are half free meanwhile: after every two products of the next strip's S come two rows of this one's
 * probabilities, at D = 128 all of them, at 64 half; four rows at a time were slower than none.
 *
 * The softmax is that of forward.inc.h, but its reference m is the one from before this strip. In the rare case that
 * some score is above it by more than 6 (in log2 units), m moves, O and the sums are scaled, and the strip's
 * probabilities are made again.
 */
#include "amx_products.h"
#include "amx_softmax.h"
#include "amx_sums.h"
#include "amx_walk.h"

#include <float.h>
#include <math.h>

enum {
    CHUNK = 8,       /* panels: half of C's loads and stores of chunks of 4 */
    WINDOW = 4,      /* panels of K and V: 128 KB at D = 128, beside 480 KB of the members' P, Q and O */
    ROWS_AT_ONCE = 2 /* of a strip's softmax amid every two products of the next one's S; the rest come after them */
};

/* A query block's. */
typedef struct statistics {
    float below[PANEL];                 /* -m */
    _Alignas(64) float sums[PANEL][VL]; /* of probabilities, by lane */
} statistics;

typedef struct scratch {
    strip_scores s[2], none; /* of this strip and the next; where what is carried goes when it is nothing */
    float before[STRIP][VL]; /* this strip's sums without it */
    uint16_t p[TOGETHER][CHUNK][PANEL * PANEL]; /* rows [4][2] */
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
    const char *p[CHUNK], *v[CHUNK]; /* of the panels whose P is made and not yet added to O */
    int32_t panels;                  /* how many these are */
    bool started, has_o;
} member;

typedef struct walk {
    pair_walk pairs;
    member members[TOGETHER];
    scratch *at;
    float scale; /* in log2 units */
    int32_t dim;
    char *carried; /* where accumulators 2 and 3 go, the last of a strip's S; NULL: they hold nothing */
} walk;

/* ---- softmax */

/* Of each row of a strip the largest score, in log2 units. */
static vf tops_of(const strip_scores *s, float scale) {
    tile_row r[STRIP];
    for (int32_t row = 0; row < STRIP; row++) {
        vf top = v_set1(-INFINITY);
        for (int32_t i = 0; i < 4; i++)
            top = v_max(v_mul(v_load(s->tiles[i] + row * VL), v_set1(scale)), top);
        r[row] = (tile_row)top;
    }
    transpose(r);
    vf top = (vf)r[0];
    for (int32_t i = 1; i < VL; i++)
        top = v_max((vf)r[i], top);
    return top;
}

/* Keys that are none get no probability; the first panel finds m. */
static void begin_strip(const walk *w, member *m, int32_t strip, strip_scores *s, int32_t keys) {
    for (int32_t i = keys / VL; i < 4; i++)
        for (int32_t row = 0; row < STRIP; row++)
            _mm512_mask_storeu_ps(s->tiles[i] + row * VL, (__mmask16)~first_lanes(keys > i * VL ? keys - i * VL : 0),
                                  v_set1(w->scale < 0 ? INFINITY : -INFINITY));
    if (m->started) return;
    const vf top = v_max(tops_of(s, w->scale), v_set1(-FLT_MAX));
    v_store(m->of->below + strip * STRIP, v_sub(v_zero(), top));
}

static inline softmax softmax_of(const walk *w, const member *m, int32_t strip, const strip_scores *s) {
    return (softmax){.s = s->tiles[0],
                     .p = (char *)(uintptr_t)m->p[m->panels] + strip * 2 * TILE,
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
ALWAYS_INLINE void scores(const int32_t depth, const int rows, walk *w, const char *q, const char *k, strip_scores *s,
                          softmax *run, stream *fetch) {
    char *carried = w->carried ? w->carried : (char *)&w->at->none;
    CARRIED_STRIP_OVER_DIMS(depth, q, k, s, carried, softmax_rows(rows, run); fetch_some(fetch));
    w->carried = carried;
}

/* S is whole in memory, and the tiles are free. */
static inline void store_carried(walk *w) {
    if (!w->carried) return;
    tile_store(2, w->carried, 64);
    tile_store(3, w->carried + TILE, 64);
    w->carried = NULL;
}

/* Adds P V of the panels that wait to the member's O. P of the pair at hand is not among them and stays. */
static __attribute__((noinline)) void empty(walk *w, member *m) {
    const int32_t columns = padded_dim(w->dim) / VL, panels = m->panels;
    if (!panels) return;
    token_sum sum = {.panels = panels,
                     .fresh = !m->has_o,
                     .c = {.at = m->o, .second = (int64_t)columns * TILE, .step = TILE, .stride = 64}};
    _Static_assert(sizeof sum.a >= sizeof m->p, "a sum takes a chunk");
    memcpy(sum.a, m->p, sizeof m->p);
    memcpy(sum.b, m->v, sizeof m->v);
    store_carried(w);
    add_sum(&sum, STRIPS, columns);
    m->has_o = true;
    const char *at_hand = m->p[panels % CHUNK];
    m->p[panels % CHUNK] = m->p[0];
    m->p[0] = at_hand;
    m->panels = 0;
}

/* Where a maximum in a strip has passed m: moves m and everything that was measured by it, and makes P again. */
static __attribute__((noinline)) void move_reference(walk *w, member *m, int32_t strip, const strip_scores *s) {
    const int32_t columns = padded_dim(w->dim) / VL;
    float tops[STRIP];
    empty(w, m);
    softmax run = softmax_of(w, m, strip, s);
    memcpy(run.sums, run.before, sizeof w->at->before);
    _mm512_storeu_ps(tops, tops_of(s, w->scale));
    for (int32_t row = 0; row < STRIP; row++) {
        float *below = m->of->below + strip * STRIP + row;
        if (!(tops[row] + *below > MOVE_ABOVE)) continue;
        const vf shrink = v_exp2(v_set1(-tops[row] - *below));
        *below = -tops[row];
        v_store(run.sums[row], v_mul(v_load(run.sums[row]), shrink));
        if (!m->has_o) continue;
        float *o = (float *)m->o + strip * columns * TILE_FLOATS + row * VL;
        for (int32_t d = 0; d < w->dim; d += VL, o += TILE_FLOATS)
            v_store(o, v_mul(v_load(o), shrink));
    }
    softmax_rest(&run);
}

/* depth: padded D / 32. rows: how many rows of a softmax go with every two products of the next strip's S; those that
   are left come after them. */
ALWAYS_INLINE void steps(const int32_t depth, const int rows, walk *w) {
    pair now, next = {0};
    stream none = {0};
    if (!next_pair(&w->pairs, &now)) return;
    scores(depth, 0, w, w->members[now.member].q, k_of(w, now.piece), w->at->s, NULL, &none);
    for (bool more = true; more; now = next) {
        member *m = w->members + now.member;
        more = next_pair(&w->pairs, &next);
        stream fetch = next_stream(w);
        for (int32_t strip = 0; strip < STRIPS; strip++) {
            strip_scores *s = w->at->s + strip % 2, *s_next = w->at->s + (strip + 1) % 2;
            const bool within = strip + 1 < STRIPS;
            const char *q = within ? m->q + (strip + 1) * depth * TILE : w->members[next.member].q;
            const char *k = k_of(w, within ? now.piece : next.piece);
            if (!m->started || now.n < PANEL) {
                store_carried(w);
                begin_strip(w, m, strip, s, now.n);
            }
            softmax run = softmax_of(w, m, strip, s);
            if (within || more)
                scores(depth, rows, w, q, k, s_next, &run, &fetch);
            else
                store_carried(w);
            softmax_rest(&run);
            if (passed(&run)) move_reference(w, m, strip, s);
        }
        m->started = true;
        m->v[m->panels++] = v_of(w, now.piece);
        if (m->panels == CHUNK) empty(w, m);
    }
    for (int32_t i = 0; i < w->pairs.members; i++)
        empty(w, w->members + i);
}

static void steps_64(walk *w) {
    steps(2, ROWS_AT_ONCE, w);
}
static void steps_128(walk *w) {
    steps(4, ROWS_AT_ONCE, w);
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
        for (int32_t n = 0; n < CHUNK; n++)
            w.members[i].p[n] = (const char *)x->p[i][n];
        add_member(&w.pairs, t->blocks, t->block_count);
        amx_pack_rows(t->q, NABLA_BF16, 0, t->q_count, dim, q);
        memset(x->of[i].sums, 0, sizeof x->of[i].sums);
    }
    return w;
}

/* Natural logarithms of positive numbers: 2^e m, |m - 1| < 0.42, and ln m = 2 atanh((m - 1) / (m + 1)) by its series.
 */
static vf logs_of(vf x) {
    vf e = _mm512_getexp_ps(x), m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero);
    const __mmask16 high = _mm512_cmp_ps_mask(m, v_set1(1.41421356f), _CMP_GT_OQ);
    e = _mm512_mask_add_ps(e, high, e, v_set1(1.0f));
    m = _mm512_mask_mul_ps(m, high, m, v_set1(0.5f));
    const vf t = _mm512_div_ps(v_sub(m, v_set1(1.0f)), v_add(m, v_set1(1.0f))), z = v_mul(t, t);
    vf p = v_fma(v_set1(2.0f / 9), z, v_set1(2.0f / 7));
    p = v_fma(p, z, v_set1(2.0f / 5));
    p = v_fma(p, z, v_set1(2.0f / 3));
    p = v_fma(p, z, v_set1(2.0f));
    return v_fma(e, v_set1(LN_2), v_mul(p, t));
}

/* Of a strip l, and LSE if it is asked for; -inf where no key had a probability, as all scores are. */
static vf finish_sums(const member *m, int32_t strip) {
    const nabla_forward_task *t = m->task;
    const int32_t first = strip * STRIP, n = t->q_count - first;
    tile_row r[STRIP];
    for (int32_t row = 0; row < STRIP; row++)
        r[row] = (tile_row)v_load(m->of->sums[first + row]);
    transpose(r);
    vf sum = (vf)r[0];
    for (int32_t i = 1; i < VL; i++)
        sum = v_add(sum, (vf)r[i]);
    if (t->lse) {
        const vf lse = v_sub(logs_of(sum), v_mul(v_load(m->of->below + first), v_set1(LN_2)));
        v_store_n(t->lse + first, n, v_pick(v_equal(sum, v_zero()), v_set1(-INFINITY), lse));
    }
    return sum;
}

/* O = beta O + alpha O / l. */
static void finish(const member *m) {
    const nabla_forward_task *t = m->task;
    const nabla_rows out = {t->o, t->o_stride};
    const int32_t columns = padded_dim(t->head_dim) / VL;
    float sums[STRIP];
    for (int32_t r = 0; r < t->q_count; r++) {
        if (r % STRIP == 0) _mm512_storeu_ps(sums, finish_sums(m, r / STRIP));
        const float sum = sums[r % STRIP];
        const bool some = !(sum == 0);
        const vf factor = v_set1(some ? t->alpha / sum : 0.0f), beta = v_set1(t->beta);
        const float *o = (const float *)m->o + r / 16 * columns * TILE_FLOATS + r % 16 * VL;
        char *to = (char *)(uintptr_t)row_at(out, t->o_dtype, r);
        for (int32_t d = 0; d < t->head_dim; d += VL, o += TILE_FLOATS) {
            const int32_t n = t->head_dim - d;
            vf y = some ? v_mul(v_load(o), factor) : v_zero();
            if (t->beta != 0) y = v_fma(beta, load_floats(to, t->o_dtype, d, n), y);
            store_floats(to, t->o_dtype, d, n, y);
        }
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward kernel in tiles: S = Q K^T, P = exp2(S - m), O += P V.
 *
 * Pairs of 32 queries and a panel of keys come one after another (see amx_walk.h), three of them on their way at once:
 * a step makes S of the next one and adds P V of the one before to O, tile by tile, and amid these products comes P of
 * this one, row by row, so that the matrix unit and the vector units work all the time. 32 queries, because Q, O, and
 * two pairs' S and P, 42 KB at D = 128, then lie in the first-level cache: K and V pass it by (see amx_squares.h).
 *
 * A product of tiles takes 16 cycles, and while products run, multiplications have one of two ports. A row of P has 29
 * of these, and a step 64 products for 32 rows at D = 128: one row after every two hides there. At D = 64 it is one
 * after each, and P is what a step waits for. P apart from the products made a pair a quarter longer.
 *
 * The softmax is that of forward.inc.h, but its reference m is the one from before this pair. In the rare case that
 * some score is above it by more than 18 (in log2 units), the row's m moves, its O and sums are scaled, and its
 * probabilities are made again.
 */
#include "amx_pair.h"
#include "amx_walk.h"

#include <float.h>
#include <math.h>

enum { STRIP = 16 }; /* rows of a tile */

typedef struct scratch {
    score_terms pairs[2]; /* of this pair; of the next S, of the one before P */
    statistics of[TOGETHER][HALVES];
    _Alignas(64) char tiles[]; /* of each member Q as rows, then O, of each half [2][padded D / 16] */
} scratch;

static size_t member_bytes(int32_t dim) {
    return panel_bytes(dim) + PANEL * (size_t)padded_dim(dim) * sizeof(float);
}

size_t amx_forward_scratch(int32_t dim) {
    return sizeof(scratch) + TOGETHER * member_bytes(dim);
}

/* Half a query block on its way over its keys. */
typedef struct half {
    statistics *of;
    char *q, *o;
    bool started, has_o;
} half;

/* A pair on its way. */
typedef struct passing {
    half *of; /* NULL: none */
    score_terms *terms;
    const char *k, *v;
    int32_t n;         /* keys */
    const char *ahead; /* lines to fetch amid its S */
} passing;

/* Pairs found ahead, many at a time, which takes a fraction of what each one takes between two steps. */
enum { AHEAD = 32, RING = 2 * AHEAD };

typedef struct walk {
    pair_walk pairs;
    const nabla_forward_task *tasks[TOGETHER];
    half halves[TOGETHER][HALVES];
    scratch *at;
    const char *packed_k, *packed_v;
    float scale; /* in log2 units */
    int32_t dim;
    passing ring[RING]; /* pair i at i % RING; before the first and after the last there are none */
} walk;

/* ---- softmax */

/* Of each query of a strip, 0 or 1, the largest score, in log2 units. */
static vf tops_of(score_terms *x, int32_t strip, float scale) {
    tile_row r[STRIP];
    for (int32_t row = 0; row < STRIP; row++) {
        vf top = v_set1(-INFINITY);
        for (int32_t i = 0; i < 4; i++)
            top = v_max(v_mul(v_load(scores_row(x->tiles[0] + strip * TILE + row * 64, i)), v_set1(scale)), top);
        r[row] = (tile_row)top;
    }
    transpose(r);
    vf top = (vf)r[0];
    for (int32_t i = 1; i < VL; i++)
        top = v_max((vf)r[i], top);
    return top;
}

/* Keys that are none get no probability; the first panel finds m. */
static __attribute__((noinline)) void begin_pair(const walk *w, const passing *x) {
    for (int32_t i = x->n / VL; i < 4; i++)
        for (int32_t row = 0; row < HALF; row++)
            _mm512_mask_storeu_ps(scores_row(x->terms->tiles[0] + row * 64, i),
                                  (__mmask16)~first_lanes(x->n > i * VL ? x->n - i * VL : 0),
                                  v_set1(w->scale < 0 ? INFINITY : -INFINITY));
    if (x->of->started) return;
    for (int32_t strip = 0; strip < HALF / STRIP; strip++) {
        const vf top = v_max(tops_of(x->terms, strip, w->scale), v_set1(-FLT_MAX));
        v_store(x->of->of->below + strip * STRIP, v_sub(v_zero(), top));
    }
}

/* For the rows that have passed m, which are S still: moves m and everything that was measured by it, and makes P
   again, which then counts whatever it is: of scores of 2^27 and more what rounding leaves above m may be as much
   again. O has all pairs before this one. */
static __attribute__((noinline)) void move_reference(const walk *w, const passing *x, uint32_t passed) {
    const int32_t columns = padded_dim(w->dim) / VL;
    statistics *of = x->of->of;
    softmax_constants constants = softmax_constants_of(w->scale);
    float tops[HALF];
    constants.most = v_set1(INFINITY);
    for (int32_t strip = 0; strip < HALF / STRIP; strip++)
        v_store(tops + strip * STRIP, tops_of(x->terms, strip, w->scale));
    for (; passed; passed &= passed - 1) {
        const int32_t row = __builtin_ctz(passed);
        const vf shrink = v_exp2(v_set1(-tops[row] - of->below[row]));
        of->below[row] = -tops[row];
        v_store(of->sums[row], v_mul(v_load(of->sums[row]), shrink));
        float *o = (float *)x->of->o + row / STRIP * columns * TILE_FLOATS + row % STRIP * VL;
        for (int32_t d = 0; d < columns && x->of->has_o; d++, o += TILE_FLOATS)
            v_store(o, v_mul(v_load(o), shrink));
        softmax again = softmax_from(row, constants, x->terms, of);
        softmax_row(&again);
    }
}

/* ---- steps */

/* After every two products: rows of the softmax, and a line on its way to the second-level cache. */
ALWAYS_INLINE void beside(const int rows, softmax *run, const char **ahead) {
    softmax_rows(rows, run);
    _mm_prefetch(*ahead, _MM_HINT_T1);
    *ahead += 64;
}

/* S of the next pair, a softmax, and O of the pair before. Its P lies where the first half of S will, which so comes
   last; and what is in the tiles then goes amid the next step's first products: *last. A step that stored it itself
   took 3 % longer, as the softmax waits for it. odd, even: so many rows after a product. */
ALWAYS_INLINE void step(const int32_t depth, const int odd, const int even, const passing *next, softmax *run,
                        const passing *done, square *last) {
    const char *ahead = next->ahead;
    square old = *last, now;
    if (next->of) {
        /* no row after the first product, when only a half of its scores is stored */
        now = scores_square(depth, next->of->q, next->k, next->terms, 2);
        ADD_SQUARE(depth, &now, &old, (void)0, beside(odd + even, run, &ahead));
        old = now;
    } else
        finish_square(&old);
    for (int32_t column = 0; done->of && column < 2 * depth; column += 2, old = now) {
        now = output_square(depth, done->terms, done->v, done->of->o, column);
        now.fresh = !done->of->has_o;
        ADD_SQUARE(2, &now, &old, softmax_rows(odd, run), beside(even, run, &ahead));
    }
    if (next->of) {
        now = scores_square(depth, next->of->q, next->k, next->terms, 0);
        ADD_SQUARE(depth, &now, &old, softmax_rows(odd, run), beside(even, run, &ahead));
        old = now;
    } else
        finish_square(&old);
    *last = old;
    softmax_rest(run);
}

/* Of a panel's keys and then its values. */
static const char *part_of(const walk *w, int32_t piece, int32_t part) {
    const char *packed = part < PARTS / 2 ? w->packed_k : w->packed_v;
    return packed_panel(packed, piece, w->dim) + panel_bytes(w->dim) * 2 / PARTS * (size_t)(part % (PARTS / 2));
}

/* The next AHEAD pairs from number `first` on. */
static __attribute__((noinline)) void find_pairs(walk *w, uint32_t first) {
    for (uint32_t i = first; i < first + AHEAD; i++) {
        passing *out = w->ring + i % RING;
        pair x;
        *out = (passing){.of = NULL, .ahead = w->packed_k};
        if (!next_pair(&w->pairs, &x)) continue;
        *out = (passing){.of = &w->halves[x.member][x.half],
                         .terms = w->at->pairs + i % 2,
                         .k = packed_panel(w->packed_k, x.piece, w->dim),
                         .v = packed_panel(w->packed_v, x.piece, w->dim),
                         .n = x.n};
        out->ahead = x.ahead < 0 ? out->k : part_of(w, x.ahead, x.part);
    }
}

/* depth: padded D / 32. */
ALWAYS_INLINE void steps(const int32_t depth, const int odd, const int even, walk *w) {
    const softmax_constants constants = softmax_constants_of(w->scale);
    square last = {.c = NULL};
    for (uint32_t i = 0;; i++) {
        if (i % AHEAD == 0) find_pairs(w, i);
        const passing *next = w->ring + i % RING, *now = w->ring + (i - 1) % RING, *done = w->ring + (i - 2) % RING;
        if (!next->of && !now->of && !done->of) break;
        if (now->of && (!now->of->started || now->n < PANEL)) {
            finish_square(&last);
            begin_pair(w, now);
        }
        softmax run = {.constants = constants};
        if (now->of) run = softmax_from(0, constants, now->terms, now->of->of);
        step(depth, odd, even, next, &run, done, &last);
        if (done->of) done->of->has_o = true;
        if (run.passed) move_reference(w, now, run.passed);
        if (now->of) now->of->started = true;
    }
}

static void steps_64(walk *w) {
    steps(2, 1, 1, w);
}
static void steps_128(walk *w) {
    steps(4, 0, 1, w);
}
static void steps_any(walk *w) {
    steps(padded_dim(w->dim) / 32, 0, 1, w);
}

/* ---- tasks */

static walk begin(const nabla_forward_task *tasks) {
    const int32_t dim = tasks->head_dim;
    scratch *x = tasks->scratch;
    walk w = {.pairs = begin_walk(tasks->k_offsets, tasks->k_pieces, dim),
              .at = x,
              .packed_k = tasks->packed_k,
              .packed_v = tasks->packed_v,
              .scale = tasks->scale * LOG2_E,
              .dim = dim};
    for (const nabla_forward_task *t = tasks; t; t = t->next) {
        const int32_t i = w.pairs.members;
        char *q = x->tiles + (size_t)i * member_bytes(dim), *o = q + panel_bytes(dim);
        for (int32_t h = 0; h < HALVES; h++)
            w.halves[i][h] = (half){.of = &x->of[i][h],
                                    .q = q + panel_bytes(dim) / HALVES * (size_t)h,
                                    .o = o + panel_bytes(dim) * (size_t)h}; /* as many bytes, of floats */
        w.tasks[i] = t;
        add_member(&w.pairs, t->blocks, t->block_count, (t->q_count + HALF - 1) / HALF);
        amx_pack_rows(t->q, NABLA_BF16, 0, t->q_count, dim, q);
        for (int32_t h = 0; h < HALVES; h++)
            memset(x->of[i] + h, 0, sizeof x->of[i][h]);
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

/* Of 16 queries l, and LSE if it is asked for; -inf where no key had a probability, as all scores are. */
static vf finish_sums(const nabla_forward_task *t, const statistics *of, int32_t first) {
    const float *below = of->below + first % HALF;
    const int32_t n = t->q_count - first;
    tile_row r[STRIP];
    for (int32_t row = 0; row < STRIP; row++)
        r[row] = (tile_row)v_load(of->sums[first % HALF + row]);
    transpose(r);
    vf sum = (vf)r[0];
    for (int32_t i = 1; i < VL; i++)
        sum = v_add(sum, (vf)r[i]);
    if (t->lse) {
        const vf lse = v_sub(logs_of(sum), v_mul(v_load(below), v_set1(LN_2)));
        v_store_n(t->lse + first, n, v_pick(v_equal(sum, v_zero()), v_set1(-INFINITY), lse));
    }
    return sum;
}

/* Dims [d, d + 32) of a row, of which there are n. */
static inline void store_dims(char *row, nabla_dtype type, int32_t d, int32_t n, vf low, vf high) {
    if (type == NABLA_BF16) { /* at once, a line: a pair takes 2 to 3 % less in lists of 16 than by halves */
        const __mmask32 mask = n < 2 * VL ? (1u << n) - 1 : 0xffffffffu;
        _mm512_mask_storeu_epi16((uint16_t *)(void *)row + d, mask, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        return;
    }
    store_floats(row, type, d, n, low);
    if (n > VL) store_floats(row, type, d + VL, n - VL, high);
}

/* O = beta O + alpha O / l. */
static void finish(const nabla_forward_task *t, const half *halves) {
    const nabla_rows out = {t->o, t->o_stride};
    const int32_t columns = padded_dim(t->head_dim) / VL;
    float sums[STRIP];
    for (int32_t r = 0; r < t->q_count; r++) {
        const half *h = halves + r / HALF;
        if (r % STRIP == 0) _mm512_storeu_ps(sums, finish_sums(t, h->of, r));
        const float sum = sums[r % STRIP];
        const bool some = !(sum == 0);
        const vf factor = v_set1(some ? t->alpha / sum : 0.0f), beta = v_set1(t->beta);
        const float *o = (const float *)h->o + r % HALF / STRIP * columns * TILE_FLOATS + r % STRIP * VL;
        char *to = (char *)(uintptr_t)row_at(out, t->o_dtype, r);
        for (int32_t d = 0; d < t->head_dim; d += 2 * VL, o += 2 * TILE_FLOATS) {
            const int32_t n = t->head_dim - d;
            vf low = some ? v_mul(v_load(o), factor) : v_zero();
            vf high = some ? v_mul(v_load(o + TILE_FLOATS), factor) : v_zero();
            if (t->beta != 0) {
                low = v_fma(beta, load_floats(to, t->o_dtype, d, n), low);
                if (n > VL) high = v_fma(beta, load_floats(to, t->o_dtype, d + VL, n - VL), high);
            }
            store_dims(to, t->o_dtype, d, n, low, high);
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
        finish(w.tasks[i], w.halves[i]);
}

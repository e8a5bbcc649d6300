/* SPDX-License-Identifier: Apache-2.0 */
/* Packing, products and the ends of products on tiles; see tile_product.h. */
#include "attention/cpu/amx_tiles.h"
#include "attention/cpu/tile_rows.h"
#include "device/cpu/activation.h"
#include "device/cpu/tile_product.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

/* Steps of k whose tiles of the other operand, 32 KB, stay in the first-level cache for all own strips. */
enum { CHUNK = 16, TILE = 1024, LINES = 16 };

#define INLINE static inline __attribute__((always_inline))

/* ---- packing */

static __mmask32 first(int64_t n) {
    return n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1;
}

/* 16 rows of memory by 32 numbers, `have` and `wide` of which there are. */
INLINE void load_rows(tile_row r[LINES], const uint16_t *x, int64_t stride, int64_t have, int64_t wide) {
    const __mmask32 mask = first(wide);
    for (int i = 0; i < LINES; i++)
        r[i] = i < have ? _mm512_maskz_loadu_epi16(mask, x + i * stride) : _mm512_setzero_si512();
}

/* Of 32 rows of memory, pairs of rows: words of (row 2i, row 2i + 1), 16 of the first columns in low, the others in
   high. */
INLINE void load_pairs(tile_row low[LINES], tile_row high[LINES], const uint16_t *x, int64_t stride, int64_t have,
                       int64_t wide) {
    const __mmask32 mask = first(wide);
    tile_row near, far; /* which numbers of two rows make 16 words */
    uint16_t pick[2][32];
    for (uint16_t i = 0; i < 32; i++) {
        pick[0][i] = (uint16_t)(i / 2 + i % 2 * 32);
        pick[1][i] = (uint16_t)(16 + i / 2 + i % 2 * 32);
    }
    memcpy(&near, pick[0], sizeof near);
    memcpy(&far, pick[1], sizeof far);
    for (int i = 0; i < LINES; i++) {
        const tile_row a = 2 * i < have ? _mm512_maskz_loadu_epi16(mask, x + 2 * i * stride) : _mm512_setzero_si512(),
                       b = 2 * i + 1 < have ? _mm512_maskz_loadu_epi16(mask, x + (2 * i + 1) * stride)
                                            : _mm512_setzero_si512();
        low[i] = _mm512_permutex2var_epi16(a, near, b);
        high[i] = _mm512_permutex2var_epi16(a, far, b);
    }
}

INLINE void store_tile(char *out, const tile_row r[LINES]) {
    for (int i = 0; i < LINES; i++)
        _mm512_store_si512(out + 64 * i, r[i]);
}

/* A tile of A has 16 rows of 32 of k; one of B 16 pairs of k by 16 columns: each is the other's, transposed by words.
 */
INLINE void pack(const nv_tile_source *x, char *out, const bool of_b) {
    const uint16_t *data = x->data;
    tile_row low[LINES], high[LINES];
    const bool as_rows = x->along == 1;
    int64_t k = 0;
    do { /* of no numbers a step of zeros */
        if (as_rows) {
            load_rows(low, data + k, x->across, x->count, x->k - k);
            load_rows(high, data + 16 * x->across + k, x->across, x->count - 16, x->k - k);
        } else {
            load_pairs(low, high, data + k * x->along, x->along, x->k - k, x->count);
        }
        if (as_rows == of_b) {
            transpose(low);
            transpose(high);
        }
        store_tile(out, low);
        store_tile(out + TILE, high);
        k += 32;
        out += NV_STEP_BYTES;
    } while (k < x->k);
}

/* Rows of A as they lie, eight lines of each at a time: memory gives them up to a quarter faster than line by line of
   all rows. */
static void copy_rows(const nv_tile_source *x, char *out) {
    enum { LINES_AT_A_TIME = 8 };
    const int64_t lines = x->k > 0 ? (x->k + 31) / 32 : 1; /* of no numbers a step of zeros */
    for (int64_t line = 0; line < lines; line += LINES_AT_A_TIME)
        for (int32_t row = 0; row < NV_STRIP; row++) {
            const uint16_t *from = (const uint16_t *)x->data + row * x->across;
            const int64_t end = line + LINES_AT_A_TIME < lines ? line + LINES_AT_A_TIME : lines;
            char *to = out + row / LINES * TILE + row % LINES * 64;
            for (int64_t i = line; i < end; i++)
                _mm512_store_si512(to + i * NV_STEP_BYTES,
                                   _mm512_maskz_loadu_epi16(first(row < x->count ? x->k - 32 * i : 0), from + 32 * i));
        }
}

static void pack_a(const nv_tile_source *from, char *strip) {
    if (from->along == 1)
        copy_rows(from, strip);
    else
        pack(from, strip, false);
}
static void pack_b(const nv_tile_source *from, char *strip) {
    pack(from, strip, true);
}

/* ---- storing */

/* The words that the mask says. */
INLINE void put(void *c, __m512i x, __mmask16 mask, bool streamed) {
    if (streamed && mask == 0xffff && (uintptr_t)c % 64 == 0)
        _mm512_stream_si512(c, x);
    else
        _mm512_mask_storeu_epi32(c, mask, x);
}

INLINE void put_floats(float *c, __m512 x, __mmask16 mask, const nv_tile_done *to) {
    if (to->add) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, c));
    put(c, (__m512i)x, mask, to->streamed && !to->add);
}

/* Of what C would hold without: a pass that keeps that for its backward pass gets the same bits. */
INLINE __m512 activated(__m512 x, nabla_dtype dtype, const nv_activation act) {
    vf slope;
    const vf v = dtype == NABLA_BF16 ? vwiden(vnarrow((vf)x)) : (vf)x;
    return (__m512)(v * gate_of(act, v, &slope));
}

typedef enum action { AS_IS, SILU, GELU } action;

static action action_of(const nv_tile_done *done) {
    if (!done || !done->act) return AS_IS;
    switch (*done->act) {
    case NV_SILU:
        return SILU;
    case NV_GELU_TANH:
        return GELU;
    }
    return AS_IS;
}

/* Squares on their way to C, row by row. */
typedef struct storing {
    const nv_tile_done *done;
    const char *square;
    const float *bias;
    char *c;                /* the next row of the square */
    int32_t row, rows;      /* of it; 0 rows: all are stored */
    int32_t below, columns; /* rows of C from this square on, and columns */
} storing;

static storing storing_of(const nv_tile_done *done) {
    storing s = {.done = done};
    if (!done) return s;
    s.square = done->squares;
    s.bias = done->bias;
    s.c = done->c;
    s.below = done->rows;
    s.columns = done->cols;
    s.rows = s.below < NV_STRIP ? s.below : NV_STRIP;
    return s;
}

static void next_square(storing *s) {
    const nv_tile_done *d = s->done;
    const int64_t size = d->dtype == NABLA_BF16 ? 2 : 4;
    s->square += NV_SQUARE_BYTES;
    s->row = 0;
    if (d->own_is_b) {
        s->c += (NV_STRIP - s->rows * d->row) * size;
        if (s->bias) s->bias += NV_STRIP;
        s->columns -= NV_STRIP;
        if (s->columns <= 0) s->rows = 0;
    } else {
        s->below -= NV_STRIP;
        s->rows = s->below < NV_STRIP ? s->below : NV_STRIP;
        if (s->below <= 0) s->rows = 0;
    }
}

INLINE void store_row(storing *s, const action act) {
    const nv_tile_done *d = s->done;
    const __mmask32 mask = first(s->columns);
    const __mmask16 low = (__mmask16)mask, high = (__mmask16)(mask >> 16);
    const char *at = s->square + s->row / LINES * 2 * TILE + s->row % LINES * 64;
    __m512 x = _mm512_load_ps(at), y = _mm512_load_ps(at + TILE);
    if (s->bias) {
        x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(low, s->bias));
        y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(high, s->bias + 16));
    }
    if (act != AS_IS) {
        x = activated(x, d->dtype, act == SILU ? NV_SILU : NV_GELU_TANH);
        y = activated(y, d->dtype, act == SILU ? NV_SILU : NV_GELU_TANH);
    }
    if (d->dtype == NABLA_BF16) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(y, x);
        if (mask == 0xffffffffu)
            put(s->c, both, 0xffff, d->streamed);
        else
            _mm512_mask_storeu_epi16(s->c, mask, both);
        s->c += d->row * 2;
    } else {
        put_floats((float *)(void *)s->c, x, low, d);
        put_floats((float *)(void *)s->c + 16, y, high, d);
        s->c += d->row * 4;
    }
    if (++s->row == s->rows) next_square(s);
}

static void store(const nv_tile_done *done) {
    storing s = storing_of(done);
    while (s.rows)
        switch (action_of(done)) {
        case AS_IS:
            store_row(&s, AS_IS);
            break;
        case SILU:
            store_row(&s, SILU);
            break;
        case GELU:
            store_row(&s, GELU);
            break;
        }
}

/* ---- products */

/* The old square's tile goes, the new one's comes. */
#define TURN(t)                                     \
    do {                                            \
        if (old) tile_store(t, old + (t)*TILE, 64); \
        if (fresh)                                  \
            tile_zero(t);                           \
        else                                        \
            tile_load(t, square + (t)*TILE, 64);    \
    } while (0)

/* The operand that is not `other` passes the first-level cache by. */
#define LOAD_A(t, at)                  \
    do {                               \
        if (own_is_b)                  \
            tile_load(t, at, 64);      \
        else                           \
            tile_load_once(t, at, 64); \
    } while (0)
#define LOAD_B(t, at)                  \
    do {                               \
        if (own_is_b)                  \
            tile_load_once(t, at, 64); \
        else                           \
            tile_load(t, at, 64);      \
    } while (0)
#define STEP(turn)                                                        \
    do {                                                                  \
        for (int32_t line = 0; line < lines; line++, next += 64)          \
            _mm_prefetch(next, _MM_HINT_T1);                              \
        for (int32_t line = 0; line < square_lines; line++, coming += 64) \
            _mm_prefetch(coming, _MM_HINT_T1);                            \
        LOAD_A(4, a);                                                     \
        LOAD_B(6, b);                                                     \
        LOAD_A(5, a + TILE);                                              \
        LOAD_B(7, b + TILE);                                              \
        a += NV_STEP_BYTES;                                               \
        b += NV_STEP_BYTES;                                               \
        if (turn) TURN(0);                                                \
        tile_dot(0, 4, 6);                                                \
        if (turn) TURN(1);                                                \
        tile_dot(1, 4, 7);                                                \
        if (turn) TURN(2);                                                \
        tile_dot(2, 5, 6);                                                \
        if (turn) TURN(3);                                                \
        tile_dot(3, 5, 7);                                                \
        if (ending.rows) store_row(&ending, act);                         \
    } while (0)

/* The accumulators of a square go as those of the next come, so that the matrix unit does not wait. What the next block
   reads of the other operand is fetched from the last-level cache amid this one's products, at an even pace: up to 15 %
   faster than to wait for it; so are its squares, if they wait there. And so is the block before stored, row by row,
   whose activation costs nothing then. */
INLINE void multiply(const nv_tile_block *x, const bool own_is_b, const action act) {
    storing ending = storing_of(x->done);
    const int32_t lines = (NV_STEP_BYTES / 64 + x->strips - 1) / x->strips; /* to fetch in a step */
    const int32_t square_lines = x->coming ? (int32_t)((NV_SQUARE_BYTES / 64 + x->steps - 1) / x->steps) : 0;
    const char *next = x->next, *coming = x->coming;
    char *old = NULL;
    for (int64_t from = 0; from < x->steps; from += CHUNK) {
        const int64_t steps = x->steps - from < CHUNK ? x->steps - from : CHUNK;
        const bool fresh = x->fresh && from == 0;
        for (int32_t i = 0; i < x->strips; i++) {
            const char *const own = x->own + i * x->own_bytes + from * NV_STEP_BYTES;
            const char *const other = x->other + from * NV_STEP_BYTES;
            const char *a = own_is_b ? other : own, *b = own_is_b ? own : other;
            char *const square = x->squares + (int64_t)i * NV_SQUARE_BYTES;
            STEP(true);
            for (int64_t s = 1; s < steps; s++)
                STEP(false);
            old = square;
        }
    }
    tile_store(0, old, 64);
    tile_store(1, old + TILE, 64);
    tile_store(2, old + 2 * TILE, 64);
    tile_store(3, old + 3 * TILE, 64);
    while (ending.rows)
        store_row(&ending, act);
}

#define MULTIPLY(name, own_is_b, act)                     \
    static void multiply_##name(const nv_tile_block *x) { \
        multiply(x, own_is_b, act);                       \
    }
MULTIPLY(a, false, AS_IS)
MULTIPLY(a_silu, false, SILU)
MULTIPLY(a_gelu, false, GELU)
MULTIPLY(b, true, AS_IS)
MULTIPLY(b_silu, true, SILU)
MULTIPLY(b_gelu, true, GELU)

static void multiply_block(const nv_tile_block *x) {
    static void (*const kinds[2][3])(const nv_tile_block *x) = {{multiply_a, multiply_a_silu, multiply_a_gelu},
                                                                {multiply_b, multiply_b_silu, multiply_b_gelu}};
    kinds[x->own_is_b != 0][action_of(x->done)](x);
}

static void begin(void) {
    static const tile_config config = FULL_TILES;
    tile_configure(&config);
}

static void end(void) {
    _mm_sfence(); /* what was streamed, before others read it */
    tile_release();
}

/* Less of own strips was slower, more too where k is longer than 1536. Past the caches a product whose C has 25 MB
   takes two fifths less time, one of 4 MB a thirtieth: more than what reads C next loses by finding it in memory. */
const nv_tile_kernels nv_tile_kernels_amx = {
    begin, end, pack_a, pack_b, multiply_block, store, .strips_bytes = 11 << 17, .streamed = 1 << 20};

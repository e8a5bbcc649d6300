/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention in 8 bits by vpdpbusd, the dot of four unsigned bytes with four signed ones: S^T = K Q^T with K unsigned,
 * O^T += V^T P^T with P unsigned, lanes being queries throughout as in forward.inc.h. Twice the rate of bf16's dot on
 * AMD's cores, four times fp32's FMA. int8.inc.h says what the bytes are.
 *
 * A piece's probabilities are relative to its own largest score, not to the running reference, so that they fill a
 * byte whatever else the row keeps; the difference goes into the factor with which the piece is added to O.
 */
#include "simd_avx512.h"

/* Of gcc 12's intrinsic, on integers where the tile's sums are floats, comes code that stores every sum at every step:
   a third of the speed. */
static inline vf v_dot(vf sum, vf a, vf b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* Sums are integers; those of a piece's values are added to O with a factor a channel (row) and one a query (lane). */
#define TILE_OWN_FACTOR
typedef struct tile_factor {
    const float *rows, *lanes;
} tile_factor;

static inline vf add_product(const tile_factor *factor, int32_t row, int32_t lane, vf sum, vf c) {
    const vf scale = v_mul(v_load(factor->lanes + lane), v_set1(factor->rows[row]));
    return v_fma(scale, _mm512_cvtepi32_ps((__m512i)sum), c);
}

#include "finish.inc.h"
#include "int8.inc.h"

#define LOG2_TOP_P 7.99435343685885792f

typedef struct scratch {
    float s[PANEL * PANEL];     /* lanes: S^T, integers */
    float p[PANEL / 4 * PANEL]; /* lanes: P^T, words of four keys */
    float m[PANEL], l[PANEL], factor[PANEL];
    float q_scale[PANEL];
    int32_t q_sum[PANEL];
    float panels[]; /* lanes of Q; lanes O^T; rows on their way in and out */
} scratch;

/* Words of a row of Q, in fours as they are turned into lanes. */
static inline int32_t q_words(int32_t dim) {
    return (int32_t)round_up(dim / 4, 4);
}
static size_t scratch_size(int32_t dim) {
    return sizeof(scratch) + PANEL * ((size_t)q_words(dim) + (size_t)dim + (size_t)col_ld(dim)) * sizeof(float);
}

/* 2^x of 16 x up to log2(255), which may be passed by a rounding and then saturates, as integers, within one: p(x -
 * floor(x)) of degree 3 is within 7.5e-5 (relative). */
static inline __m512i bytes_of_exp2(vf x) {
    const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    vf p = v_fma(v_set1(7.8024523e-2f), r, v_set1(2.2606716e-1f));
    p = v_fma(p, r, v_set1(6.9583354e-1f));
    p = v_fma(p, r, v_set1(9.9992522e-1f));
    return _mm512_cvtps_epi32(_mm512_scalef_ps(p, x));
}

/* Lane i: the word of a[i], b[i], c[i], d[i]; NaN, which became the least integer, is 0. */
static inline __m512i join_bytes(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
    const __m512i pairs = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
    return _mm512_shuffle_epi8(pairs, order);
}

/* One vector of queries against a piece of n keys: from scores to probabilities and the factor that goes with them;
   m, l and, when m moves, the queries' columns of O^T are brought up to date. */
static void softmax(const float *s, int32_t n, vf scale, __m512i q_sum, float *p, float *m, float *l, float *factor,
                    float *o, int32_t dim) {
    __m512i most = _mm512_set1_epi32(INT32_MIN), most_odd = most;
    for (int32_t r = 0; r < n; r += 2) {
        most = _mm512_max_epi32(most, _mm512_loadu_si512(s + r * TILE_N));
        most_odd = _mm512_max_epi32(most_odd, _mm512_loadu_si512(s + (r + 1 < n ? r + 1 : r) * TILE_N));
    }
    most = _mm512_max_epi32(most, most_odd);
    const __m512i offset = _mm512_slli_epi32(q_sum, 7);
    const vf top = v_mul(_mm512_cvtepi32_ps(_mm512_sub_epi32(most, offset)), scale);
    vf sum;
    const vf reference = raise_reference(top, m, l, o, dim, &sum);
    const vf shift = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(most), scale, v_set1(LOG2_TOP_P));
    const __m512i ones = _mm512_set1_epi32(0x01010101);
    __m512i total = _mm512_setzero_si512();
    for (int32_t r = 0; r < n; r += 4) {
        __m512i x[4];
        UNROLLED
        for (int i = 0; i < 4; i++) {
            x[i] = _mm512_setzero_si512();
            if (r + i < n)
                x[i] = bytes_of_exp2(v_fma(_mm512_cvtepi32_ps(_mm512_loadu_si512(s + (r + i) * TILE_N)), scale, shift));
        }
        const __m512i word = join_bytes(x[0], x[1], x[2], x[3]);
        total = _mm512_dpbusd_epi32(total, word, ones);
        _mm512_storeu_si512(p + r / 4 * TILE_N, word);
    }
    const vf weight = v_mul(v_exp2(v_sub(top, reference)), v_set1(1.0f / INT8_TOP_P));
    v_store(factor, weight);
    v_store(l, v_fma(weight, _mm512_cvtepi32_ps(total), sum));
}

static void forward_piece(const nabla_forward_task *t, int32_t piece, int32_t n, lanes q, lanes o) {
    const int32_t dim = t->head_dim;
    const char *k = int8_k_piece(t->packed_k, piece, dim), *v = int8_v_piece(t->packed_v, piece, dim);
    scratch *x = t->scratch;
    const lanes s = {x->s, PANEL * TILE_N}, p = {x->p, PANEL / 4 * TILE_N};
    const tile_factor factor = {int8_v_scales(v), x->factor};
    const vf k_scale = v_set1(int8_k_scale(k));
    product(ROWS, n, t->q_count, dim / 4, (const float *)(const void *)int8_k_rows(k), dim / 4, q, s, NULL);
    for (int32_t i = 0; i < t->q_count; i += VL)
        softmax(lane_at(s, i), n, v_mul(v_load(x->q_scale + i), k_scale), _mm512_loadu_si512(x->q_sum + i),
                lane_at(p, i), x->m + i, x->l + i, x->factor + i, lane_at(o, i), dim);
    product(COLS, dim, t->q_count, (n + 3) / 4, (const float *)(const void *)int8_v_words(v, dim), dim, p, o, &factor);
}

/* Q's bytes as lanes, their scales and sums; nothing seen so far. */
static void begin(const nabla_forward_task *t, nabla_dtype dtype, lanes q, float *rows) {
    scratch *x = t->scratch;
    float row[INT8_MOST_DIM];
    const int64_t ld = q_words(t->head_dim);
    memset(rows, 0, PANEL * (size_t)ld * sizeof *rows);
    for (int32_t i = 0; i < PANEL; i++)
        x->m[i] = -INFINITY, x->l[i] = 0, x->q_scale[i] = 0, x->q_sum[i] = 0;
    for (int32_t i = 0; i < t->q_count; i++) {
        nabla_load_row(t->q.data, dtype, i * t->q.stride, t->head_dim, row);
        x->q_scale[i] = int8_quantise_q(row, t->head_dim, t->scale * LOG2_E, (int8_t *)(rows + i * ld), &x->q_sum[i]);
    }
    lanes_of_rows(rows, ld, t->q_count, (int32_t)ld, q);
}

static void forward(const nabla_forward_task *t, nabla_dtype dtype) {
    const int32_t dim = t->head_dim;
    scratch *x = t->scratch;
    const lanes q = {x->panels, q_words(dim) * TILE_N}, o = {x->panels + q.strip, dim * TILE_N};
    float *rows = o.data + o.strip, row[INT8_MOST_DIM];
    begin(t, dtype, q, rows);
    memset(o.data, 0, (size_t)o.strip * sizeof *o.data);
    for (int32_t i = 0; i < t->block_count; i++) {
        const int32_t block = t->blocks[i], last = t->k_offsets[block + 1];
        for (int32_t at = t->k_offsets[block], piece = t->k_pieces[block]; at < last; at += PANEL, piece++)
            forward_piece(t, piece, last - at < PANEL ? last - at : PANEL, q, o);
    }
    finish(t, x->m, x->l, o, rows);
    for (int32_t i = 0; t->lse && t->block_count && i < t->q_count; i++) {
        nabla_load_row(t->q.data, dtype, i * t->q.stride, dim, row);
        t->lse[i] += int8_mean_score(row, int8_mean(t->packed_k), dim, t->scale);
    }
}

#include "int8_kernels.inc.h"

void nabla_kernels_avx512vnni(nabla_kernels *table) {
    for (int dtype = NABLA_FP32; dtype < NABLA_CPU_DTYPES; dtype++)
        table->of[dtype].forward_int8 = int8_kernels((nabla_dtype)dtype);
}

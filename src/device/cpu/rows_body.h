/* SPDX-License-Identifier: Apache-2.0 */
/* The row kernels' one source. The including file sets NV_ROWS to the name of its table and is compiled with its
   level's flags. */
#include "device/cpu/rows.h"
#include "device/cpu/vec.h"
#include <math.h>

/* Rows taken together where columns are summed, so that the sums are read and written once for all of them. */
enum { NV_ROW_BLOCK = 8 };

static void *row_at(nv_matrix m, int64_t row) {
    return (unsigned char *)m.data + (size_t)(row * m.stride) * (m.dtype == NABLA_BF16 ? 2 : 4);
}

/* ------------------------------------------------------------------------------------------ seam */

NV_INLINE void seam_row(const nv_seam *a, int64_t row, int y_bf16, int n_bf16) {
    const int64_t dim = a->dim, group = row / a->group_rows;
    float *x = a->x + row * dim;
    vf sum = {0};
    if (a->y.data) {
        const void *y = row_at(a->y, row);
        const float *gate = a->gate ? a->gate + group * a->gate_stride : NULL;
        for (int64_t c = 0; c < dim; c += NV_LANES) {
            int n = vleft(dim, c);
            vf v = vload(y, c, n, y_bf16);
            if (gate) v *= vload_f32(gate + c, n);
            v += vload_f32(x + c, n);
            vstore_f32(x + c, v, n);
            sum += v;
        }
    } else if (a->normalise) {
        for (int64_t c = 0; c < dim; c += NV_LANES)
            sum += vload_f32(x + c, vleft(dim, c));
    }
    if (!a->n.data) return;
    void *out = row_at(a->n, row);
    if (!a->normalise) {
        for (int64_t c = 0; c < dim; c += NV_LANES) {
            int n = vleft(dim, c);
            vstore(out, c, vload_f32(x + c, n), n, n_bf16);
        }
        return;
    }
    const float mean = vsum(sum) / (float)dim;
    vf squares = {0};
    for (int64_t c = 0; c < dim; c += NV_LANES) {
        int n = vleft(dim, c);
        vf v = vfirst(vload_f32(x + c, n) - mean, n);
        squares += v * v;
    }
    const float rstd = 1.0f / sqrtf(vsum(squares) / (float)dim + a->eps);
    const float *gain = a->gain + group * a->gain_stride, *shift = a->shift + group * a->gain_stride;
    for (int64_t c = 0; c < dim; c += NV_LANES) {
        int n = vleft(dim, c);
        vf v = (vload_f32(x + c, n) - mean) * rstd;
        if (a->xhat) vstore(a->xhat, row * dim + c, v, n, n_bf16);
        vstore(out, c, v * (vload_f32(gain + c, n) + a->gain_offset) + vload_f32(shift + c, n), n, n_bf16);
    }
    if (a->rstd) a->rstd[row] = rstd;
}

static void seam(const nv_seam *a, int64_t first, int64_t last) {
    const int y_bf16 = a->y.data && a->y.dtype == NABLA_BF16, n_bf16 = a->n.data && a->n.dtype == NABLA_BF16;
    for (int64_t r = first; r < last; r++) {
        if (y_bf16 && n_bf16)
            seam_row(a, r, 1, 1);
        else if (y_bf16)
            seam_row(a, r, 1, 0);
        else if (n_bf16)
            seam_row(a, r, 0, 1);
        else
            seam_row(a, r, 0, 0);
    }
}

/* d norm(x) = rstd * (h - mean(h) - xhat * mean(h xhat)) with h = d_n * gain: the two means. */
typedef struct seam_means {
    float h, h_xhat;
} seam_means;

NV_INLINE seam_means seam_row_means(const nv_seam *a, const nv_seam_grad *g, const float *gain, int64_t row,
                                    int n_bf16) {
    const int64_t dim = a->dim;
    const void *d_n = row_at(g->d_n, row);
    vf sum = {0}, sum_xhat = {0};
    for (int64_t c = 0; c < dim; c += NV_LANES) {
        int n = vleft(dim, c);
        vf h = vload(d_n, c, n, n_bf16) * (vload_f32(gain + c, n) + a->gain_offset);
        sum += h;
        sum_xhat += h * vload(a->xhat, row * dim + c, n, n_bf16);
    }
    return (seam_means){vsum(sum) / (float)dim, vsum(sum_xhat) / (float)dim};
}

NV_INLINE void seam_block_backward(const nv_seam *a, const nv_seam_grad *g, int64_t first, int rows, float *partial,
                                   int y_bf16, int n_bf16) {
    const int64_t dim = a->dim, group = first / a->group_rows;
    const float *gain = a->normalise ? a->gain + group * a->gain_stride : NULL;
    const float *gate = a->gate ? a->gate + group * a->gate_stride : NULL;
    seam_means means[NV_ROW_BLOCK];
    for (int i = 0; a->normalise && i < rows; i++)
        means[i] = seam_row_means(a, g, gain, first + i, n_bf16);
    for (int64_t c = 0; c < dim; c += NV_LANES) {
        int n = vleft(dim, c);
        vf d_gain = {0}, d_shift = {0}, d_gate = {0}, d_bias = {0};
        vf scale = gain ? vload_f32(gain + c, n) + a->gain_offset : vset(1.0f);
        vf gates = gate ? vload_f32(gate + c, n) : vset(1.0f);
        for (int i = 0; i < rows; i++) {
            const int64_t row = first + i, at = row * dim + c;
            vf d = {0};
            if (g->d_n.data) {
                vf d_n = vload(row_at(g->d_n, row), c, n, n_bf16);
                d = d_n;
                if (a->normalise) {
                    vf xhat = vload(a->xhat, at, n, n_bf16);
                    d_gain += d_n * xhat;
                    d_shift += d_n;
                    d = (d_n * scale - means[i].h - xhat * means[i].h_xhat) * a->rstd[row];
                }
            }
            if (!g->first) d += vload_f32(g->d_x + at, n);
            vstore_f32(g->d_x + at, d, n);
            if (g->d_gate) d_gate += d * vload(row_at(a->y, row), c, n, y_bf16);
            if (g->d_y.data) {
                d *= gates;
                d_bias += d;
                vstore(row_at(g->d_y, row), c, d, n, y_bf16);
            }
        }
        vf *const sums[4] = {&d_gain, &d_shift, &d_gate, &d_bias};
        for (int i = 0; i < 4; i++)
            vstore_f32(partial + i * dim + c, vload_f32(partial + i * dim + c, n) + *sums[i], n);
    }
}

static void seam_backward(const nv_seam *a, const nv_seam_grad *g, int64_t first, int64_t last, float *partial) {
    const int y_bf16 = g->d_y.data && g->d_y.dtype == NABLA_BF16, n_bf16 = g->d_n.data && g->d_n.dtype == NABLA_BF16;
    for (int64_t r = first; r < last; r += NV_ROW_BLOCK) {
        int rows = last - r < NV_ROW_BLOCK ? (int)(last - r) : NV_ROW_BLOCK;
        if (y_bf16 && n_bf16)
            seam_block_backward(a, g, r, rows, partial, 1, 1);
        else if (y_bf16)
            seam_block_backward(a, g, r, rows, partial, 1, 0);
        else if (n_bf16)
            seam_block_backward(a, g, r, rows, partial, 0, 1);
        else
            seam_block_backward(a, g, r, rows, partial, 0, 0);
    }
}

/* ------------------------------------------------------------------------------------------ q and k */

/* Turns the pairs in v by the angles whose (cos, sin) pairs are in cs; sign -1 turns back. */
NV_INLINE vf turn(vf v, vf cs, float sign) {
    vf c = __builtin_shufflevector(cs, cs, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
    vf s = __builtin_shufflevector(cs, cs, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15);
    vf w = __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    const vf signs = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
    return v * c + w * (s * (signs * sign));
}

NV_INLINE void qk_norm_row(const nv_qk_norm *a, int64_t row, int bf16) {
    const int64_t dim = a->x.cols, head_dim = dim / a->heads;
    const void *x = row_at(a->x, row);
    void *y = row_at(a->y, row);
    vf squares = {0};
    for (int64_t c = 0; c < dim; c += NV_LANES) {
        vf v = vload(x, c, vleft(dim, c), bf16);
        squares += v * v;
    }
    const float rstd = 1.0f / sqrtf(vsum(squares) / (float)dim + a->eps);
    const float *angles = a->rope ? a->rope + (row % a->tokens) * head_dim : NULL;
    for (int64_t head = 0; head < dim; head += head_dim) {
        for (int64_t d = 0; d < head_dim; d += NV_LANES) {
            int n = vleft(head_dim, d);
            vf v = vload(x, head + d, n, bf16) * rstd * vload_f32(a->weight + head + d, n);
            if (angles) v = turn(v, vload_f32(angles + d, n), 1.0f);
            vstore(y, head + d, v, n, bf16);
        }
    }
    if (a->rstd) a->rstd[row] = rstd;
}

static void qk_norm(const nv_qk_norm *a, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        if (a->x.dtype == NABLA_BF16)
            qk_norm_row(a, r, 1);
        else
            qk_norm_row(a, r, 0);
    }
}

/* The gradient in front of the rotation, at column d of a head. */
NV_INLINE vf turn_back(const nv_qk_norm *a, const void *d_y, int64_t row, int64_t head, int64_t d, int n, int bf16) {
    const int64_t head_dim = a->x.cols / a->heads;
    vf v = vload(d_y, head + d, n, bf16);
    if (!a->rope) return v;
    return turn(v, vload_f32(a->rope + (row % a->tokens) * head_dim + d, n), -1.0f);
}

NV_INLINE void qk_norm_block_backward(const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, int64_t first, int rows,
                                      float *partial, int bf16) {
    const int64_t dim = a->x.cols, head_dim = dim / a->heads;
    float mean[NV_ROW_BLOCK]; /* of d xhat * xhat, where xhat = x * rstd */
    for (int i = 0; i < rows; i++) {
        const void *x = row_at(a->x, first + i), *dy = row_at(d_y, first + i);
        vf sum = {0};
        for (int64_t head = 0; head < dim; head += head_dim)
            for (int64_t d = 0; d < head_dim; d += NV_LANES) {
                int n = vleft(head_dim, d);
                vf g = turn_back(a, dy, first + i, head, d, n, bf16);
                sum += g * vload_f32(a->weight + head + d, n) * vload(x, head + d, n, bf16);
            }
        mean[i] = vsum(sum) * a->rstd[first + i] / (float)dim;
    }
    for (int64_t head = 0; head < dim; head += head_dim)
        for (int64_t d = 0; d < head_dim; d += NV_LANES) {
            int n = vleft(head_dim, d);
            vf weight = vload_f32(a->weight + head + d, n), d_weight = {0}, d_bias = {0};
            for (int i = 0; i < rows; i++) {
                const float rstd = a->rstd[first + i];
                vf g = turn_back(a, row_at(d_y, first + i), first + i, head, d, n, bf16);
                vf xhat = vload(row_at(a->x, first + i), head + d, n, bf16) * rstd;
                vf dx = (g * weight - xhat * mean[i]) * rstd;
                d_weight += g * xhat;
                d_bias += dx;
                vstore(row_at(d_x, first + i), head + d, dx, n, bf16);
            }
            float *w = partial + head + d, *b = w + dim;
            vstore_f32(w, vload_f32(w, n) + d_weight, n);
            vstore_f32(b, vload_f32(b, n) + d_bias, n);
        }
}

static void qk_norm_backward(const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, int64_t first, int64_t last,
                             float *partial) {
    for (int64_t r = first; r < last; r += NV_ROW_BLOCK) {
        int rows = last - r < NV_ROW_BLOCK ? (int)(last - r) : NV_ROW_BLOCK;
        if (a->x.dtype == NABLA_BF16)
            qk_norm_block_backward(a, d_y, d_x, r, rows, partial, 1);
        else
            qk_norm_block_backward(a, d_y, d_x, r, rows, partial, 0);
    }
}

/* ------------------------------------------------------------------------------------------ activations */

/* Both are x * sigmoid(u): SiLU with u = x; GELU(tanh) with u = 2 sqrt(2 / pi) (x + 0.044715 x^3), as
   (1 + tanh(z)) / 2 = sigmoid(2z). Gives the sigmoid and, in *slope, du/dx. */
NV_INLINE vf gate_of(nv_activation act, vf x, vf *slope) {
    vf u = x;
    *slope = vset(1.0f);
    if (act == NV_GELU_TANH) {
        const float k = 1.5957691216f;
        vf square = x * x;
        u = x * (square * (k * 0.044715f) + k);
        *slope = square * (3.0f * k * 0.044715f) + k;
    }
    return 1.0f / (vexp(-u) + 1.0f);
}

NV_INLINE void activate_row(nv_activation act, nv_matrix x, nv_matrix y, int64_t row, int bf16) {
    const void *src = row_at(x, row);
    void *dst = row_at(y, row);
    for (int64_t c = 0; c < x.cols; c += NV_LANES) {
        int n = vleft(x.cols, c);
        vf v = vload(src, c, n, bf16), slope;
        vstore(dst, c, v * gate_of(act, v, &slope), n, bf16);
    }
}

static void activate(nv_activation act, nv_matrix x, nv_matrix y, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        if (act == NV_GELU_TANH && x.dtype == NABLA_BF16)
            activate_row(NV_GELU_TANH, x, y, r, 1);
        else if (act == NV_GELU_TANH)
            activate_row(NV_GELU_TANH, x, y, r, 0);
        else if (x.dtype == NABLA_BF16)
            activate_row(NV_SILU, x, y, r, 1);
        else
            activate_row(NV_SILU, x, y, r, 0);
    }
}

typedef struct activation_grad {
    nv_activation act;
    nv_matrix x, d_y, d_x, again;
    float *partial;
} activation_grad;

NV_INLINE void activate_block_backward(const activation_grad *g, nv_activation act, int64_t first, int rows, int bf16) {
    for (int64_t c = 0; c < g->x.cols; c += NV_LANES) {
        int n = vleft(g->x.cols, c);
        vf sum = {0};
        for (int i = 0; i < rows; i++) {
            vf x = vload(row_at(g->x, first + i), c, n, bf16), slope;
            vf s = gate_of(act, x, &slope);
            vf y = x * s;
            vf d = vload(row_at(g->d_y, first + i), c, n, bf16) * (y * (1.0f - s) * slope + s);
            sum += d;
            vstore(row_at(g->d_x, first + i), c, d, n, bf16);
            if (g->again.data) vstore(row_at(g->again, first + i), c, y, n, bf16);
        }
        if (g->partial) vstore_f32(g->partial + c, vload_f32(g->partial + c, n) + sum, n);
    }
}

static void activate_backward(nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x, nv_matrix again,
                              int64_t first, int64_t last, float *partial) {
    const activation_grad g = {act, x, d_y, d_x, again, partial};
    for (int64_t r = first; r < last; r += NV_ROW_BLOCK) {
        int rows = last - r < NV_ROW_BLOCK ? (int)(last - r) : NV_ROW_BLOCK;
        if (act == NV_GELU_TANH && x.dtype == NABLA_BF16)
            activate_block_backward(&g, NV_GELU_TANH, r, rows, 1);
        else if (act == NV_GELU_TANH)
            activate_block_backward(&g, NV_GELU_TANH, r, rows, 0);
        else if (x.dtype == NABLA_BF16)
            activate_block_backward(&g, NV_SILU, r, rows, 1);
        else
            activate_block_backward(&g, NV_SILU, r, rows, 0);
    }
}

/* ------------------------------------------------------------------------------------------ plain passes */

static void cast(nv_matrix src, nv_matrix dst, int64_t first, int64_t last) {
    const int from = src.dtype == NABLA_BF16, to = dst.dtype == NABLA_BF16;
    for (int64_t r = first; r < last; r++) {
        const void *s = row_at(src, r);
        void *d = row_at(dst, r);
        for (int64_t c = 0; c < src.cols; c += NV_LANES) {
            int n = vleft(src.cols, c);
            vstore(d, c, vload(s, c, n, from), n, to);
        }
    }
}

static void column_sums(nv_matrix x, int64_t first, int64_t last, float *partial) {
    const int bf16 = x.dtype == NABLA_BF16;
    for (int64_t r = first; r < last; r += NV_ROW_BLOCK) {
        int rows = last - r < NV_ROW_BLOCK ? (int)(last - r) : NV_ROW_BLOCK;
        for (int64_t c = 0; c < x.cols; c += NV_LANES) {
            int n = vleft(x.cols, c);
            vf sum = vload_f32(partial + c, n);
            for (int i = 0; i < rows; i++)
                sum += vload(row_at(x, r + i), c, n, bf16);
            vstore_f32(partial + c, sum, n);
        }
    }
}

static void add(float *sum, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static double sum_squares(const float *x, int64_t n) {
    double lanes[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++)
        lanes[0] += (double)x[i] * (double)x[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static void adamw(const nv_adamw *a, int64_t n, float *restrict value, const float *restrict grad, float *restrict m,
                  float *restrict v, float *restrict ema) {
    const float b1 = a->beta1, b2 = a->beta2, scale = a->grad_scale, eps = a->eps;
    const float m_scale = (float)(1.0 / (1.0 - pow((double)b1, (double)a->step)));
    const float v_scale = (float)(1.0 / (1.0 - pow((double)b2, (double)a->step)));
    const float lr = a->lr, keep = 1.0f - a->lr * a->weight_decay, mix = 1.0f - a->ema_decay;
    for (int64_t i = 0; i < n; i++) {
        const float g = grad[i] * scale;
        m[i] = b1 * m[i] + (1.0f - b1) * g;
        v[i] = b2 * v[i] + (1.0f - b2) * g * g;
        value[i] = keep * value[i] - lr * (m[i] * m_scale) / (sqrtf(v[i] * v_scale) + eps);
    }
    if (!ema) return;
    for (int64_t i = 0; i < n; i++)
        ema[i] += mix * (value[i] - ema[i]);
}

/* Six rows times two vectors of sums stay in registers on AVX-512. */
static void product_tile(const float *a, const float *b, int64_t k, float *tile) {
    vf sum[NV_TILE_ROWS][2] = {{{0}, {0}}};
    for (int64_t i = 0; i < k; i++, a += NV_TILE_ROWS, b += NV_TILE_COLS) {
        const vf b0 = vload_f32(b, NV_LANES), b1 = vload_f32(b + NV_LANES, NV_LANES);
        for (int r = 0; r < NV_TILE_ROWS; r++) {
            sum[r][0] += a[r] * b0;
            sum[r][1] += a[r] * b1;
        }
    }
    memcpy(tile, sum, sizeof sum);
}

const nv_row_kernels NV_ROWS = {seam, seam_backward, qk_norm, qk_norm_backward, activate, activate_backward,
                                cast, column_sums,   add,     sum_squares,      adamw,    product_tile};

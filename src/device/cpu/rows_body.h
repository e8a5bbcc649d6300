/* SPDX-License-Identifier: Apache-2.0 */
/* The row kernels' one source. The including file sets NV_ROWS to the name of its table and is compiled with its
   level's flags. */
#include "device/cpu/activation.h"
#include "device/cpu/panels_body.h"
#include "device/cpu/rows.h"
#include <math.h>

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
        __builtin_prefetch(g->d_x + row * dim + c, 1);
        vf h = vload(d_n, c, n, n_bf16) * (vload_f32(gain + c, n) + a->gain_offset);
        sum += h;
        sum_xhat += h * vload(a->xhat, row * dim + c, n, n_bf16);
    }
    return (seam_means){vsum(sum) / (float)dim, vsum(sum_xhat) / (float)dim};
}

/* The second walk over the row reads what the first did not; it comes soon. */
NV_INLINE void prefetch_row(nv_matrix m, int64_t row, int64_t cols) {
    const char *p = m.data ? row_at(m, row) : NULL;
    for (int64_t byte = 0; p && byte < cols * (m.dtype == NABLA_BF16 ? 2 : 4); byte += 64)
        __builtin_prefetch(p + byte);
}

NV_INLINE void add_to(float *sum, vf v, int n) {
    vstore_f32(sum, vload_f32(sum, n) + v, n);
}

NV_INLINE void seam_row_backward(const nv_seam *a, const nv_seam_grad *g, int64_t row, float *partial, int y_bf16,
                                 int n_bf16) {
    const int64_t dim = a->dim, group = row / a->group_rows;
    const float *gain = a->normalise ? a->gain + group * a->gain_stride : NULL;
    const float *gate = a->gate ? a->gate + group * a->gate_stride : NULL;
    const void *d_n = row_at(g->d_n, row), *y = g->d_gate ? row_at(a->y, row) : NULL;
    void *d_y = g->d_y.data ? row_at(g->d_y, row) : NULL;
    seam_means mean = {0};
    float rstd = 1.0f;
    prefetch_row(a->y, row, dim);
    if (gain) {
        mean = seam_row_means(a, g, gain, row, n_bf16);
        rstd = a->rstd[row];
    }
    for (int64_t c = 0; c < dim; c += NV_LANES) {
        int n = vleft(dim, c);
        vf d = vload(d_n, c, n, n_bf16);
        if (gain) {
            vf xhat = vload(a->xhat, row * dim + c, n, n_bf16);
            add_to(partial + c, d * xhat, n);
            add_to(partial + dim + c, d, n);
            d = (d * (vload_f32(gain + c, n) + a->gain_offset) - mean.h - xhat * mean.h_xhat) * rstd;
        }
        if (!g->first) d += vload_f32(g->d_x + row * dim + c, n);
        vstore_f32(g->d_x + row * dim + c, d, n);
        if (y) add_to(partial + 2 * dim + c, d * vload(y, c, n, y_bf16), n);
        if (!d_y) continue;
        if (gate) d *= vload_f32(gate + c, n);
        vstore(d_y, c, d, n, y_bf16);
        add_to(partial + 3 * dim + c, d, n);
    }
}

static void seam_backward(const nv_seam *a, const nv_seam_grad *g, int64_t first, int64_t last, float *partial) {
    const nv_matrix *branch = a->y.data ? &a->y : &g->d_y;
    const int y_bf16 = branch->data && branch->dtype == NABLA_BF16, n_bf16 = g->d_n.data && g->d_n.dtype == NABLA_BF16;
    for (int64_t r = first; r < last; r++) {
        if (y_bf16 && n_bf16)
            seam_row_backward(a, g, r, partial, 1, 1);
        else if (y_bf16)
            seam_row_backward(a, g, r, partial, 1, 0);
        else if (n_bf16)
            seam_row_backward(a, g, r, partial, 0, 1);
        else
            seam_row_backward(a, g, r, partial, 0, 0);
    }
}

/* ------------------------------------------------------------------------------------------ q and k */

/* Turns the pairs in v by the angles whose (cos, sin) pairs are in cs; sign -1 turns back. */
NV_INLINE vf turn(vf v, vf cs, float sign) {
    const vf c = vpairs(cs, 0, 0), s = vpairs(cs, 1, 1), w = vpairs(v, 1, 0);
    const vi lane = NV_LANE_NUMBERS;
    const vf signs = vselect((lane & 1) == 0, vset(-1.0f), vset(1.0f));
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

NV_INLINE void qk_norm_row_backward(const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, int64_t row, float *partial,
                                    int bf16) {
    const int64_t dim = a->x.cols, head_dim = dim / a->heads;
    const void *x = row_at(a->x, row), *dy = row_at(d_y, row);
    void *dx = row_at(d_x, row);
    const float rstd = a->rstd[row];
    vf sum = {0};
    for (int64_t head = 0; head < dim; head += head_dim)
        for (int64_t d = 0; d < head_dim; d += NV_LANES) {
            int n = vleft(head_dim, d);
            vf g = turn_back(a, dy, row, head, d, n, bf16);
            sum += g * vload_f32(a->weight + head + d, n) * vload(x, head + d, n, bf16);
        }
    const float mean = vsum(sum) * rstd / (float)dim; /* of d xhat * xhat, where xhat = x * rstd */
    for (int64_t head = 0; head < dim; head += head_dim)
        for (int64_t d = 0; d < head_dim; d += NV_LANES) {
            int n = vleft(head_dim, d);
            vf g = turn_back(a, dy, row, head, d, n, bf16), xhat = vload(x, head + d, n, bf16) * rstd;
            vf v = (g * vload_f32(a->weight + head + d, n) - xhat * mean) * rstd;
            vstore(dx, head + d, v, n, bf16);
            add_to(partial + head + d, g * xhat, n);
            add_to(partial + dim + head + d, v, n);
        }
}

static void qk_norm_backward(const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, int64_t first, int64_t last,
                             float *partial) {
    for (int64_t r = first; r < last; r++) {
        if (a->x.dtype == NABLA_BF16)
            qk_norm_row_backward(a, d_y, d_x, r, partial, 1);
        else
            qk_norm_row_backward(a, d_y, d_x, r, partial, 0);
    }
}

/* ------------------------------------------------------------------------------------------ activations */

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
    nv_matrix x, d_y, d_x, again;
    float *partial;
} activation_grad;

NV_INLINE void activate_row_backward(const activation_grad *g, nv_activation act, int64_t row, int bf16) {
    const void *x = row_at(g->x, row), *d_y = row_at(g->d_y, row);
    void *d_x = row_at(g->d_x, row), *again = g->again.data ? row_at(g->again, row) : NULL;
    for (int64_t c = 0; c < g->x.cols; c += NV_LANES) {
        int n = vleft(g->x.cols, c);
        vf v = vload(x, c, n, bf16), slope;
        vf s = gate_of(act, v, &slope);
        vf y = v * s;
        vf d = vload(d_y, c, n, bf16) * (y * (1.0f - s) * slope + s);
        vstore(d_x, c, d, n, bf16);
        if (again) vstore(again, c, y, n, bf16);
        if (g->partial) add_to(g->partial + c, d, n);
    }
}

static void activate_backward(nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x, nv_matrix again,
                              int64_t first, int64_t last, float *partial) {
    const activation_grad g = {x, d_y, d_x, again, partial};
    for (int64_t r = first; r < last; r++) {
        if (act == NV_GELU_TANH && x.dtype == NABLA_BF16)
            activate_row_backward(&g, NV_GELU_TANH, r, 1);
        else if (act == NV_GELU_TANH)
            activate_row_backward(&g, NV_GELU_TANH, r, 0);
        else if (x.dtype == NABLA_BF16)
            activate_row_backward(&g, NV_SILU, r, 1);
        else
            activate_row_backward(&g, NV_SILU, r, 0);
    }
}

/* ------------------------------------------------------------------------------------------ frames */

NV_INLINE void channel_norm_row(const nv_channel_norm *a, int64_t row, int silu, int bf16) {
    const int64_t cols = a->x.cols;
    const float *x = row_at(a->x, row);
    void *y = row_at(a->y, row);
    vf squares = {0};
    for (int64_t c = 0; c < cols; c += NV_LANES) {
        const vf v = vload_f32(x + c, vleft(cols, c));
        squares += v * v;
    }
    const float length = sqrtf(vsum(squares)), scale = sqrtf((float)cols) / (length > 1e-12f ? length : 1e-12f);
    for (int64_t c = 0; c < cols; c += NV_LANES) {
        const int n = vleft(cols, c);
        vf v = vload_f32(x + c, n) * scale * vload_f32(a->gamma + c, n);
        if (silu) v = v * vreciprocal(1.0f + vexp(-v));
        vstore(y, c, v, n, bf16);
    }
}

static void channel_norm(const nv_channel_norm *a, int64_t first, int64_t last) {
    const int bf16 = a->y.dtype == NABLA_BF16;
    for (int64_t r = first; r < last; r++) {
        if (a->silu && bf16)
            channel_norm_row(a, r, 1, 1);
        else if (a->silu)
            channel_norm_row(a, r, 1, 0);
        else if (bf16)
            channel_norm_row(a, r, 0, 1);
        else
            channel_norm_row(a, r, 0, 0);
    }
}

/* y = act(x) * z */
NV_INLINE void gate_row(nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, int64_t row, int bf16) {
    const void *from = row_at(x, row), *factor = row_at(z, row);
    void *to = row_at(y, row);
    for (int64_t c = 0; c < x.cols; c += NV_LANES) {
        int n = vleft(x.cols, c);
        vf v = vload(from, c, n, bf16), slope;
        vstore(to, c, v * gate_of(act, v, &slope) * vload(factor, c, n, bf16), n, bf16);
    }
}

static void gate(nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        if (x.dtype == NABLA_BF16)
            gate_row(act, x, z, y, r, 1);
        else
            gate_row(act, x, z, y, r, 0);
    }
}

/* ------------------------------------------------------------------------------------------ softmax */

NV_INLINE float vlargest(vf v) {
    float m = v[0];
    for (int i = 1; i < NV_LANES; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* Three walks: scores with their bias and the largest, exponentials and their sum, probabilities. */
NV_INLINE void softmax_row(nv_matrix s, float scale, const float *bias, nv_matrix p, int64_t row, int bf16) {
    const vi lane = NV_LANE_NUMBERS;
    float *score = row_at(s, row);
    void *to = row_at(p, row);
    vf largest = vset(-INFINITY), sum = {0};
    for (int64_t c = 0; c < s.cols; c += NV_LANES) {
        int n = vleft(s.cols, c);
        vf v = vload_f32(score + c, n) * scale;
        if (bias) v += vload_f32(bias + s.rows - 1 - row + c, n);
        vstore_f32(score + c, v, n);
        largest = vmax(largest, n == NV_LANES ? v : vselect(lane < n, v, largest));
    }
    const float most = vlargest(largest);
    for (int64_t c = 0; c < s.cols; c += NV_LANES) {
        int n = vleft(s.cols, c);
        vf v = vfirst(vexp(vload_f32(score + c, n) - most), n);
        vstore_f32(score + c, v, n);
        sum += v;
    }
    const float share = 1.0f / vsum(sum);
    for (int64_t c = 0; c < s.cols; c += NV_LANES) {
        int n = vleft(s.cols, c);
        vstore(to, c, vload_f32(score + c, n) * share, n, bf16);
    }
}

static void softmax(nv_matrix s, float scale, const float *bias, nv_matrix p, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        if (p.dtype == NABLA_BF16)
            softmax_row(s, scale, bias, p, r, 1);
        else
            softmax_row(s, scale, bias, p, r, 0);
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
    const int64_t block = 8; /* rows taken together, so that the sums are read and written once for all of them */
    for (int64_t r = first; r < last; r += block) {
        const int64_t rows = last - r < block ? last - r : block;
        for (int64_t c = 0; c < x.cols; c += NV_LANES) {
            int n = vleft(x.cols, c);
            vf sum = vload_f32(partial + c, n);
            for (int64_t i = 0; i < rows; i++)
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

static void adamw(const nv_adamw *a, float scale, const nv_piece *piece) {
    float *restrict value = piece->value, *restrict m = piece->m, *restrict v = piece->v, *restrict ema = piece->ema;
    const float *restrict grad = piece->grad;
    const int64_t n = piece->count;
    const float b1 = a->beta1, b2 = a->beta2, eps = a->eps;
    const float m_scale = a->numbers->m_scale, v_scale = a->numbers->v_scale;
    const float lr = a->numbers->lr, keep = 1.0f - lr * piece->weight_decay, mix = 1.0f - a->numbers->ema_decay;
    for (int64_t i = 0; i < n; i++) {
        const float g = grad[i] * scale;
        m[i] = b1 * m[i] + (1.0f - b1) * g;
        v[i] = b2 * v[i] + (1.0f - b2) * g * g;
        value[i] = keep * value[i] - lr * (m[i] * m_scale) / (sqrtf(v[i] * v_scale) + eps);
    }
    for (int64_t i = 0; i < n; i++)
        ema[i] += mix * (value[i] - ema[i]);
}

static const nv_panel_kernels panels = {TILE_ROWS, TILE_COLS, panel_pack_a, panel_pack_b, panel_multiply, panel_store};

const nv_row_kernels NV_ROWS = {seam,        seam_backward, qk_norm, qk_norm_backward, activate,     activate_backward,
                                gate,        softmax,       cast,    column_sums,      channel_norm, add,
                                sum_squares, adamw,         &panels};

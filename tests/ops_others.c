/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of the products, the plain passes, the model's ends, the optimizer and noise. */
#include "ops_case.h"
#include "tensor/bf16.h"
#include "tensor/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------ products */

/* c[m, n] += a[m, k] b[k, n], each with its two steps. */
static void multiply(double *c, const double *a, const double *b, int64_t m, int64_t n, int64_t k, int64_t a_row,
                     int64_t a_col, int64_t b_row, int64_t b_col) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += a[i * a_row + l * a_col] * b[l * b_row + j * b_col];
}

static void set(double *v, const double *rows, int64_t count, int64_t cols) {
    for (int64_t i = 0; i < count; i++)
        v[i] = rows ? rows[i % cols] : 0;
}

/* What a bf16 result may be away beside its own rounding, in ops_expect's units of 2^-18: the bias may be rounded as y
   is, half a unit of bf16 at 4, 0.008; and cuBLASLt may round the product before it adds the bias, half a unit, 2^-9 to
   2^-8, of the largest product. */
static double biased(const ops_case *c, ops_tensor y) {
    double most = 4; /* more than any bias */
    if (y.m.dtype != NABLA_BF16) return 0;
    if (strncmp(c->dev->level, "sm", 2) != 0) return 2048;
    for (int64_t i = 0; i < y.m.rows * y.m.cols && !c->perf; i++)
        most = fmax(most, fabs(y.v[i]) + 4);
    return 2048 + 1024 * most;
}

/* y: what the linear layer should make. */
static void linear_activated(ops_case *c, ops_tensor x, ops_tensor w, ops_tensor bias, ops_tensor y) {
    for (int64_t i = 0; i < y.m.rows * y.m.cols && !c->perf; i++) {
        const double u = 2 * sqrt(2 / acos(-1.0)) * (y.v[i] + 0.044715 * y.v[i] * y.v[i] * y.v[i]);
        y.v[i] /= 1 + exp(-u);
    }
    OPS_RUN(c, "linear_activate", 2.0 * (double)(y.m.rows * y.m.cols * x.m.cols),
            c->dev->ops->linear_activate(c->dev, NV_GELU_TANH, x.m, w.m, ops_floats(bias), y.m, err));
    ops_expect(c, "linear_activate", y, (double)x.m.cols + biased(c, y) + (y.m.dtype == NABLA_BF16 ? 4096 : 0));
}

static void linear_one(ops_case *c, int64_t in, int64_t out, nabla_dtype result, int bias, int add) {
    const nv_device_ops *ops = c->dev->ops;
    const int64_t rows = c->rows;
    ops_tensor x = ops_random(c, c->dtype, rows, in, 1), w = ops_flat(c, c->dtype, out, in, 1),
               b = ops_flat(c, NABLA_FP32, 1, out, 1), y = ops_random(c, result, rows, out, 1),
               d_y = ops_random(c, c->dtype, rows, out, 1), d_x = ops_random(c, result, rows, in, 1),
               d_w = ops_flat(c, NABLA_FP32, out, in, 1), d_b = ops_flat(c, NABLA_FP32, 1, out, 1);
    const double size = 2.0 * (double)(rows * in * out); /* reported as operations, not bytes */
    if (!c->perf) {
        set(y.v, bias ? b.v : NULL, rows * out, out);
        multiply(y.v, x.v, w.v, rows, out, in, in, 1, 1, in);
        if (!add) set(d_x.v, NULL, rows * in, in);
        multiply(d_x.v, d_y.v, w.v, rows, in, out, out, 1, in, 1);
        multiply(d_w.v, d_y.v, x.v, out, in, rows, 1, out, in, 1);
        for (int64_t i = 0; i < rows * out; i++)
            d_b.v[i % out] += d_y.v[i];
    }
    OPS_RUN(c, "linear", size, ops->linear(c->dev, x.m, w.m, bias ? ops_floats(b) : NULL, y.m, err));
    OPS_RUN(c, "linear_backward_input", size, ops->linear_backward_input(c->dev, d_y.m, w.m, d_x.m, add, err));
    OPS_RUN(c, "linear_backward_weight", size,
            ops->linear_backward_weight(c->dev, d_y.m, x.m, ops_floats(d_w), bias ? ops_floats(d_b) : NULL, err));
    ops_expect(c, "linear", y, (double)in + (bias ? biased(c, y) : 0));
    ops_expect(c, "linear_backward_input", d_x, (double)out);
    if (bias) linear_activated(c, x, w, b, y);
    ops_expect(c, "linear_backward_weight d_w", d_w, (double)rows);
    if (bias) ops_expect(c, "linear_backward_weight d_bias", d_b, (double)rows);
    ops_finish(c);
}

void ops_linear(ops_case *c) {
    linear_one(c, c->cols, c->perf ? 4 * c->cols : 40, c->dtype, 1, 0);
    linear_one(c, c->cols, c->cols, NABLA_FP32, 0, !c->perf);
}

/* ------------------------------------------------------------------------------------------ plain passes */

void ops_plain(ops_case *c) {
    const nv_device_ops *ops = c->dev->ops;
    const int64_t count = c->rows * c->cols;
    ops_tensor x = ops_random(c, c->dtype, c->rows, c->cols, 1), y = ops_random(c, NABLA_FP32, c->rows, c->cols, 1),
               z = ops_random(c, NABLA_BF16, c->rows, c->cols, 1), sums = ops_flat(c, NABLA_FP32, 1, c->cols, 1),
               a = ops_flat(c, NABLA_FP32, c->rows, c->cols, 1), b = ops_flat(c, NABLA_FP32, c->rows, c->cols, 1);
    for (int64_t i = 0; i < count; i++) {
        y.v[i] = z.v[i] = x.v[i];
        sums.v[i % c->cols] += x.v[i];
        a.v[i] += b.v[i];
    }
    OPS_RUN(c, "cast", (double)count * 6, ops->cast(c->dev, x.m, y.m, err));
    ops_expect(c, "cast to fp32", y, 0);
    OPS_RUN(c, "cast", (double)count * 6, ops->cast(c->dev, x.m, z.m, err));
    ops_expect(c, "cast to bf16", z, 0);
    OPS_RUN(c, "column_sums", (double)count * 2, ops->column_sums(c->dev, x.m, ops_floats(sums), err));
    ops_expect(c, "column_sums", sums, (double)c->rows);
    OPS_RUN(c, "add", (double)count * 12, ops->add(c->dev, ops_floats(a), ops_floats(b), count, err));
    ops_expect(c, "add", a, 1);
}

/* ------------------------------------------------------------------------------------------ a model's ends */

enum { BATCH = 2, CHANNELS = 3, F = 4, H = 6, W = 10, PF = 2, PH = 3, PW = 2, TOKENS = F / PF * H / PH * W / PW };

static void patches_one(ops_case *c, int last) {
    const int64_t pixels = PF * PH * PW, cols = CHANNELS * pixels;
    int32_t raster[TOKENS];
    for (int32_t i = 0; i < TOKENS; i++)
        raster[i] = (7 * i + 3) % TOKENS; /* any permutation */
    const nv_patches p = {BATCH, CHANNELS, {F, H, W}, {PF, PH, PW}, ops_ints(c, raster, TOKENS), last};
    ops_tensor latent = ops_flat(c, NABLA_FP32, BATCH * CHANNELS * F * H, W, 1),
               back = ops_flat(c, NABLA_FP32, BATCH * CHANNELS * F * H, W, 1),
               rows = ops_random(c, c->dtype, (int64_t)BATCH * TOKENS, cols, 1);
    for (int64_t i = 0; i < rows.m.rows * cols; i++) {
        const int64_t row = i / cols, col = i % cols, pixel = last ? col / CHANNELS : col % pixels,
                      channel = last ? col % CHANNELS : col / pixels, at = raster[row % TOKENS];
        const int64_t f = at / (H / PH * W / PW) * PF + pixel / (PH * PW),
                      h = at / (W / PW) % (H / PH) * PH + pixel / PW % PH, w = at % (W / PW) * PW + pixel % PW;
        const int64_t from = (((row / TOKENS * CHANNELS + channel) * F + f) * H + h) * W + w;
        rows.v[i] = latent.v[from];
    }
    OPS_RUN(c, "patchify", 0, c->dev->ops->patchify(c->dev, &p, ops_floats(latent), rows.m, err));
    ops_expect(c, "patchify", rows, 0);
    OPS_RUN(c, "unpatchify", 0, c->dev->ops->unpatchify(c->dev, &p, rows.m, ops_floats(back), err));
    for (int64_t i = 0; i < (int64_t)BATCH * CHANNELS * F * H * W; i++) {
        const float x = (float)latent.v[i];
        back.v[i] = (double)(c->dtype == NABLA_BF16 ? nv_bf16_to_float(nv_bf16_from_float(x)) : x);
    }
    ops_expect(c, "unpatchify", back, 0);
}

static void time_one(ops_case *c) {
    ops_tensor time = ops_flat(c, NABLA_FP32, 5, 1, 500), out = ops_flat(c, NABLA_FP32, 5, 32, 1);
    for (int64_t i = 0; i < 5 * 32; i++) {
        const double angle = time.v[i / 32] * pow(10000, -(double)(i % 16) / 16);
        out.v[i] = i % 32 < 16 ? cos(angle) : sin(angle);
    }
    OPS_RUN(c, "sinusoid", 0, c->dev->ops->sinusoid(c->dev, ops_floats(time), 5, 32, ops_floats(out), err));
    ops_expect(c, "sinusoid", out, 0.1);
}

static void modulation_one(ops_case *c, int64_t chunks, int64_t e_chunks) {
    const int64_t batch = 3, dim = c->cols;
    ops_tensor table = ops_flat(c, NABLA_FP32, chunks, dim, 1), e = ops_flat(c, NABLA_FP32, batch * e_chunks, dim, 1),
               out = ops_flat(c, NABLA_FP32, batch * chunks, dim, 1),
               d_out = ops_flat(c, NABLA_FP32, batch * chunks, dim, 1),
               d_table = ops_flat(c, NABLA_FP32, chunks, dim, 1),
               d_e = ops_flat(c, NABLA_FP32, batch * e_chunks, dim, 1);
    for (int64_t i = 0; i < batch * chunks * dim; i++) {
        const int64_t b = i / (chunks * dim), chunk = i / dim % chunks, col = i % dim;
        const int64_t from = (b * e_chunks + chunk % e_chunks) * dim + col;
        out.v[i] = table.v[chunk * dim + col] + e.v[from];
        d_table.v[chunk * dim + col] += d_out.v[i];
        d_e.v[from] += d_out.v[i];
    }
    OPS_RUN(c, "modulation", 0,
            c->dev->ops->modulation(c->dev, ops_floats(table), ops_floats(e), batch, chunks, e_chunks, dim,
                                    ops_floats(out), err));
    OPS_RUN(c, "modulation_backward", 0,
            c->dev->ops->modulation_backward(c->dev, ops_floats(d_out), batch, chunks, e_chunks, dim,
                                             ops_floats(d_table), ops_floats(d_e), err));
    ops_expect(c, "modulation", out, 1);
    ops_expect(c, "modulation_backward d_table", d_table, 4);
    ops_expect(c, "modulation_backward d_e", d_e, 4);
}

static void embed_one(ops_case *c) {
    const int32_t ids[6] = {4, 0, 4, 2, 4, 1}, *device_ids = ops_ints(c, ids, 6);
    const int64_t dim = c->cols;
    ops_tensor table = ops_flat(c, NABLA_FP32, 5, dim, 1), out = ops_flat(c, NABLA_FP32, 6, dim, 1),
               d_out = ops_flat(c, NABLA_FP32, 6, dim, 1), d_table = ops_flat(c, NABLA_FP32, 5, dim, 1);
    for (int64_t i = 0; i < 6 * dim; i++) {
        out.v[i] = table.v[ids[i / dim] * dim + i % dim];
        d_table.v[ids[i / dim] * dim + i % dim] += d_out.v[i];
    }
    OPS_RUN(c, "embed", 0, c->dev->ops->embed(c->dev, ops_floats(table), device_ids, 6, dim, ops_floats(out), err));
    OPS_RUN(c, "embed_backward", 0,
            c->dev->ops->embed_backward(c->dev, ops_floats(d_out), device_ids, 6, dim, ops_floats(d_table), err));
    ops_expect(c, "embed", out, 0);
    ops_expect(c, "embed_backward", d_table, 4);
}

void ops_ends(ops_case *c) {
    if (c->perf) return;
    patches_one(c, 0);
    patches_one(c, 1);
    ops_finish(c);
    time_one(c);
    modulation_one(c, 6, 6);
    modulation_one(c, 2, 1);
    ops_finish(c);
    embed_one(c);
}

/* ------------------------------------------------------------------------------------------ optimizer */

enum { TENSORS = 3, MOST_PIECES = 256 };

/* Tensors of three lengths, cut into pieces; what AdamW should make of them, at a norm that is clipped or not. */
static void optimizer_one(ops_case *c, float clip) {
    const int64_t n = c->rows * c->cols, lengths[TENSORS] = {n, 5, 64};
    nv_adamw a = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .grad_scale = 0.5f, .clip = clip};
    const nv_adamw_numbers now = {.lr = 1e-2f, .ema_decay = 0.99f, .m_scale = 3.7f, .v_scale = 7.0f};
    ops_tensor t[TENSORS][5]; /* value, grad, m, v, ema */
    nv_piece pieces[MOST_PIECES];
    int64_t count = 0;
    double squares = 0, got = 0;
    for (int i = 0; i < TENSORS; i++) {
        for (int part = 0; part < 5; part++)
            t[i][part] = ops_flat(c, NABLA_FP32, 1, lengths[i], 1);
        for (int64_t j = 0; j < lengths[i]; j++) {
            t[i][3].v[j] = fabs(t[i][3].v[j]); /* a mean of squares */
            squares += t[i][1].v[j] * t[i][1].v[j];
        }
        ops_write(c, t[i][3]);
        for (int64_t at = 0; at < lengths[i]; at += NV_PIECE)
            pieces[count++] =
                (nv_piece){ops_floats(t[i][0]) + at, ops_floats(t[i][1]) + at,
                           ops_floats(t[i][2]) + at, ops_floats(t[i][3]) + at,
                           ops_floats(t[i][4]) + at, (int32_t)(lengths[i] - at < NV_PIECE ? lengths[i] - at : NV_PIECE),
                           i == 1 ? 0.0f : 0.1f};
    }
    const nv_piece *on_device = ops_copy(c, pieces, (size_t)count * sizeof *pieces);
    double *sum = ops_copy(c, &got, sizeof got);
    a.squares = sum;
    a.numbers = ops_copy(c, &now, sizeof now);
    OPS_RUN(c, "sum_squares", 4 * n, c->dev->ops->sum_squares(c->dev, on_device, count, sum, err));
    ops_fetch(c, &got, sum, sizeof got);
    if (fabs(got - squares) > 1e-9 * squares) ops_fail(c, "sum_squares", "not the sum");
    const double norm = (double)a.grad_scale * sqrt(squares),
                 scale = (double)a.grad_scale * (clip > 0 && norm > (double)clip ? (double)clip / norm : 1);
    for (int i = 0; i < TENSORS && !c->perf; i++)
        for (int64_t j = 0; j < lengths[i]; j++) {
            double *value = &t[i][0].v[j], *m = &t[i][2].v[j], *v = &t[i][3].v[j], *ema = &t[i][4].v[j];
            const double g = scale * t[i][1].v[j], b1 = (double)a.beta1, b2 = (double)a.beta2;
            *m = b1 * *m + (1 - b1) * g;
            *v = b2 * *v + (1 - b2) * g * g;
            const double step = *m * (double)now.m_scale / (sqrt(*v * (double)now.v_scale) + (double)a.eps);
            *value -= (double)now.lr * (step + (i == 1 ? 0 : (double)0.1f) * *value);
            *ema += (1 - (double)now.ema_decay) * (*value - *ema);
            t[i][1].v[j] = 0;
        }
    OPS_RUN(c, "adamw", 40 * n, c->dev->ops->adamw(c->dev, &a, on_device, count, err));
    got = NAN;
    c->dev->ops->upload(c->dev, sum, &got, sizeof got);
    if (!c->perf) OPS_RUN(c, "adamw of NaN", 0, c->dev->ops->adamw(c->dev, &a, on_device, count, err));
    static const char *const names[] = {"adamw value", "adamw grad", "adamw m", "adamw v", "adamw ema"};
    for (int i = 0; i < TENSORS; i++)
        for (int part = 0; part < 5; part++)
            ops_expect(c, names[part], t[i][part], 1);
    ops_finish(c);
}

void ops_optimizer(ops_case *c) {
    optimizer_one(c, 0);
    if (!c->perf) optimizer_one(c, 0.25f);
}

/* ------------------------------------------------------------------------------------------ noise */

/* To the bit: what one device began another may go on with. */
void ops_noise(ops_case *c) {
    const int64_t batch = 3, n = c->rows * c->cols;
    const float sigma[3] = {0.25f, 1.0f, 0.7f}, *levels = ops_copy(c, sigma, sizeof sigma);
    const uint64_t stream = 0xfedcba987654u;
    float *normal = malloc((size_t)n * sizeof *normal);
    if (!normal) abort();
    for (int32_t velocity = 0; velocity < 2; velocity++) {
        ops_tensor x = ops_flat(c, NABLA_FP32, batch, n, 1), clean = ops_flat(c, NABLA_FP32, batch, n, 1);
        double *given = clean.v;
        const nv_noising a = {.batch = batch,
                              .n = n,
                              .seed = 0x123456789abcdefu,
                              .stream = ops_copy(c, &stream, sizeof stream),
                              .sigma = levels,
                              .x = ops_floats(x),
                              .clean = ops_floats(clean),
                              .velocity = velocity};
        OPS_RUN(c, "noise", 12 * batch * n, c->dev->ops->noise(c->dev, &a, err));
        for (int64_t b = 0; b < batch && !c->perf; b++) {
            nv_philox g = nv_philox_at(a.seed, stream + (uint64_t)b);
            nv_philox_normal(&g, normal, (size_t)n);
            for (int64_t i = 0; i < n; i++) {
                const float x0 = (float)given[b * n + i];
                x.v[b * n + i] = (double)((1.0f - sigma[b]) * x0 + sigma[b] * normal[i]);
                if (velocity) given[b * n + i] = (double)(normal[i] - x0);
            }
        }
        ops_expect_bits(c, "noise x", x);
        ops_expect_bits(c, velocity ? "noise velocity" : "noise clean", clean);
    }
    free(normal);
}

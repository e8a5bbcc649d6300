/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in 8 bits, on every level of the CPU: its error against fp64 is that of its definition, which is written
   out here once more and plainly; and it is what it says of NaN, LSE, threads, imports and the backward pass. */
#include "plan_fixture.h"

#include "noise.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEADS = 2, PIECE = 64 };

typedef enum tensors { RANDOM, OFFSET_KEYS, SHARP, OUTLIERS, ZEROS } tensors;

static const struct {
    const char *name;
    double most; /* relative error of O that the definition may have */
} kinds[] = {
    [RANDOM] = {"random", 0.015},   [OFFSET_KEYS] = {"keys with a large mean", 0.015},
    [SHARP] = {"sharp rows", 0.04}, [OUTLIERS] = {"outlier channels", 0.20},
    [ZEROS] = {"zeros", 0.01},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct problem {
    nabla_order *order;
    nabla_plan *plan;
    const int32_t *offsets;
    int64_t tokens, blocks;
    int32_t dim;
    nabla_dtype dtype;
    float *q, *k, *v; /* [tokens, HEADS, dim], values of the dtype */
    uint8_t *kept;    /* [HEADS, blocks, blocks] */
    float scale;
} problem;

/* ------------------------------------------------------------------ tensors */

static float rounded(float x, nabla_dtype dtype) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (dtype == NABLA_BF16) bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

/* Nearly normal. */
static float *draw(size_t n, unsigned seed) {
    float *x = noise(n, seed), *y = noise(n, seed + 100), *z = noise(n, seed + 200);
    for (size_t i = 0; i < n; i++)
        x[i] += y[i] + z[i];
    free(y);
    free(z);
    return x;
}

static void spoil(problem *p, tensors kind) {
    const size_t n = (size_t)p->tokens * HEADS * (size_t)p->dim;
    for (size_t i = 0; i < n; i++) {
        const size_t d = i % (size_t)p->dim;
        if (kind == OFFSET_KEYS) p->k[i] += d % 5 == 0 ? 20.0f : -3.0f;
        if (kind == SHARP) p->q[i] *= 4.0f;
        if (kind == OUTLIERS && d % 16 == 3) p->q[i] *= 12.0f, p->v[i] *= 30.0f;
        if (kind == OUTLIERS && d % 16 == 7) p->k[i] *= 12.0f;
        if (kind == ZEROS) p->q[i] = p->k[i] = 0.0f;
        p->q[i] = rounded(p->q[i], p->dtype);
        p->k[i] = rounded(p->k[i], p->dtype);
        p->v[i] = rounded(p->v[i], p->dtype);
    }
}

static problem make(nabla_grid grid, int32_t dim, nabla_dtype dtype, const char *policy_text, tensors kind) {
    problem p = {.order = make_order(grid), .dim = dim, .dtype = dtype, .scale = 1.0f / sqrtf((float)dim)};
    const nabla_plan_desc desc = describe(1, HEADS, p.order);
    const nabla_policy policy = parse(policy_text);
    nabla_plan_inputs in = nabla_plan_inputs_default();
    nabla_plan_stats stats;
    p.tokens = nabla_order_tokens(p.order);
    p.blocks = nabla_order_blocks(p.order);
    p.offsets = nabla_order_offsets(p.order);
    const size_t n = (size_t)p.tokens * HEADS * (size_t)dim;
    p.q = draw(n, 1);
    p.k = draw(n, 2);
    p.v = draw(n, 3);
    spoil(&p, kind);
    const int64_t shape[] = {1, p.tokens, HEADS, dim};
    const nabla_tensor q = nabla_tensor_contiguous(p.q, NABLA_FP32, 4, shape);
    const nabla_tensor k = nabla_tensor_contiguous(p.k, NABLA_FP32, 4, shape);
    in.q = &q;
    in.k = &k;
    ok(nabla_plan_create(ctx, &desc, &p.plan));
    ok(nabla_plan_build(ctx, p.plan, &policy, &in));
    p.kept = bitmap_of(p.plan, HEADS, &stats);
    return p;
}

static void drop(problem *p) {
    nabla_plan_destroy(p->plan);
    nabla_order_destroy(p->order);
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->kept);
}

/* ------------------------------------------------------------------ the definition */

static const float *row_of(const problem *p, const float *x, int64_t token, int64_t head) {
    return x + (token * HEADS + head) * p->dim;
}

static double largest(const double *x, int64_t n, int64_t step) {
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i * step]));
    return most;
}

static double steps_of(double x, double scale) {
    return scale > 0 ? rint(x / scale) : 0;
}

/* A query against the keys [first, first + n) of a head: adds to o, *sum and *max as an online softmax does; `bits`:
   every number in 8 of them. */
static void attend_piece(const problem *p, const double *q, const double *mean, int64_t head, int64_t first, int64_t n,
                         int bits, double *o, double *sum, double *max) {
    static double k[PIECE][256], v[PIECE][256];
    double s[PIECE], top = -INFINITY;
    for (int64_t j = 0; j < n; j++)
        for (int32_t d = 0; d < p->dim; d++) {
            k[j][d] = (double)row_of(p, p->k, first + j, head)[d] - mean[d];
            v[j][d] = (double)row_of(p, p->v, first + j, head)[d];
        }
    double k_scale = 0;
    for (int64_t j = 0; j < n; j++)
        k_scale = fmax(k_scale, largest(k[j], p->dim, 1) / 127);
    for (int64_t j = 0; j < n; j++) {
        s[j] = 0;
        for (int32_t d = 0; d < p->dim; d++)
            s[j] += q[d] * (bits ? steps_of(k[j][d], k_scale) * k_scale : k[j][d]);
        top = fmax(top, s[j]);
    }
    const double now = fmax(*max, top), fade = exp(*max - now), weight = exp(top - now);
    *sum *= fade;
    for (int64_t j = 0; j < n; j++) {
        const double e = exp(s[j] - top);
        s[j] = weight * (bits ? rint(255 * e) / 255 : e);
        *sum += s[j];
    }
    for (int32_t d = 0; d < p->dim; d++) {
        const double v_scale = largest(&v[0][d], n, 256) / 127;
        o[d] *= fade;
        for (int64_t j = 0; j < n; j++)
            o[d] += s[j] * (bits ? steps_of(v[j][d], v_scale) * v_scale : v[j][d]);
    }
    *max = now;
}

/* o [tokens, HEADS, dim], lse [HEADS, tokens]; of every `stride`-th token alone. */
static void reference(const problem *p, int bits, int64_t stride, double *o, double *lse) {
    for (int64_t head = 0; head < HEADS; head++) {
        double mean[256] = {0}, q[256];
        for (int64_t t = 0; t < p->tokens; t++)
            for (int32_t d = 0; d < p->dim; d++)
                mean[d] += (double)row_of(p, p->k, t, head)[d] / (double)p->tokens;
        for (int64_t t = 0, block = 0; t < p->tokens; t++) {
            double *out = o + (t * HEADS + head) * p->dim, sum = 0, max = -INFINITY, of_mean = 0;
            if (t == p->offsets[block + 1]) block++;
            if (t % stride) continue;
            for (int32_t d = 0; d < p->dim; d++) {
                q[d] = (double)row_of(p, p->q, t, head)[d] * (double)p->scale;
                of_mean += q[d] * mean[d];
            }
            const double q_scale = largest(q, p->dim, 1) / 127;
            for (int32_t d = 0; d < p->dim && bits; d++)
                q[d] = steps_of(q[d], q_scale) * q_scale;
            memset(out, 0, (size_t)p->dim * sizeof *out);
            for (int64_t b = 0; b < p->blocks; b++)
                for (int64_t at = p->offsets[b]; at < p->offsets[b + 1]; at += PIECE)
                    if (p->kept[(head * p->blocks + block) * p->blocks + b])
                        attend_piece(p, q, mean, head, at,
                                     p->offsets[b + 1] - at < PIECE ? p->offsets[b + 1] - at : PIECE, bits, out, &sum,
                                     &max);
            for (int32_t d = 0; d < p->dim; d++)
                out[d] /= sum;
            lse[head * p->tokens + t] = max + log(sum) + of_mean;
        }
    }
}

/* |x - y| / |y| over every `stride`-th token. */
static double error_of(const problem *p, int64_t stride, const double *x, const double *y) {
    double wrong = 0, all = 0;
    for (int64_t i = 0; i < p->tokens * HEADS * p->dim; i++) {
        if (i / (HEADS * p->dim) % stride) continue;
        wrong += (x[i] - y[i]) * (x[i] - y[i]);
        all += y[i] * y[i];
    }
    return sqrt(wrong / all);
}

/* Of rows of lse, as the root of the mean square. */
static double lse_error(const problem *p, int64_t stride, const double *x, const double *y) {
    double wrong = 0, count = 0;
    for (int64_t i = 0; i < HEADS * p->tokens; i++) {
        if (i % p->tokens % stride) continue;
        wrong += (x[i] - y[i]) * (x[i] - y[i]);
        count++;
    }
    return sqrt(wrong / count);
}

/* ------------------------------------------------------------------ the library */

static void *stored(const float *x, size_t n, nabla_dtype dtype) {
    uint16_t *out = malloc(n * sizeof *x);
    if (dtype == NABLA_FP32) return memcpy(out, x, n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
    }
    return out;
}

static nabla_context *context_of(const char *level, int32_t threads) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *out;
    options.level = level;
    options.threads = threads;
    ok(nabla_context_create(&options, &out, NULL, 0));
    return out;
}

/* o and lse in fp32. */
static void attend(const problem *p, const char *level, int32_t threads, float *o, float *lse) {
    const size_t n = (size_t)p->tokens * HEADS * (size_t)p->dim;
    const int64_t shape[] = {1, p->tokens, HEADS, p->dim}, lse_shape[] = {1, HEADS, p->tokens};
    void *data[] = {stored(p->q, n, p->dtype), stored(p->k, n, p->dtype), stored(p->v, n, p->dtype)};
    nabla_tensor t[3];
    nabla_context *c = context_of(level, threads);
    for (int i = 0; i < 3; i++)
        t[i] = nabla_tensor_contiguous(data[i], p->dtype, 4, shape);
    const nabla_tensor out = nabla_tensor_contiguous(o, NABLA_FP32, 4, shape);
    const nabla_tensor l = nabla_tensor_contiguous(lse, NABLA_FP32, 3, lse_shape);
    ok(nabla_attention_forward(c, p->plan, NULL, t, t + 1, t + 2, &out, &l));
    nabla_context_destroy(c);
    for (int i = 0; i < 3; i++)
        free(data[i]);
}

static void check_levels(const problem *p, tensors kind, int64_t stride) {
    const size_t n = (size_t)p->tokens * HEADS * (size_t)p->dim, rows = (size_t)p->tokens * HEADS;
    double *exact = calloc(n, sizeof *exact), *plain = calloc(n, sizeof *plain), *mine = calloc(n, sizeof *mine);
    double *exact_lse = calloc(rows, sizeof *exact_lse), *plain_lse = calloc(rows, sizeof *plain_lse);
    float *o = malloc(n * sizeof *o), *lse = malloc(rows * sizeof *lse);
    reference(p, 0, stride, exact, exact_lse);
    reference(p, 1, stride, plain, plain_lse);
    const double expected = error_of(p, stride, plain, exact);
    printf("%s, D %d, %s: error %.2g\n", kinds[kind].name, (int)p->dim, p->dtype == NABLA_BF16 ? "bf16" : "fp32",
           expected);
    assert_true(expected <= kinds[kind].most);
    for (int32_t i = 0; nabla_level_name(i); i++) {
        attend(p, nabla_level_name(i), 2, o, lse);
        for (size_t j = 0; j < n; j++)
            mine[j] = (double)o[j];
        const double error = error_of(p, stride, mine, exact);
        if (!(error <= 1.05 * expected + 1e-4)) /* steps at the middle fall to either side */
            fail_msg("%s: error %g, of the definition %g", nabla_level_name(i), error, expected);
        for (size_t r = 0; r < rows; r++)
            mine[r] = (double)lse[r];
        const double off = lse_error(p, stride, mine, exact_lse);
        const double its = lse_error(p, stride, plain_lse, exact_lse);
        if (!(off <= 1.05 * its + 2e-4))
            fail_msg("%s: lse is off by %g, of the definition %g", nabla_level_name(i), off, its);
    }
    free(exact);
    free(plain);
    free(mine);
    free(exact_lse);
    free(plain_lse);
    free(o);
    free(lse);
}

static nabla_grid tiles_of(int32_t frames, int32_t height, int32_t width, int32_t deep) {
    nabla_grid grid = nabla_grid_default(frames, height, width);
    grid.tile_frames = deep;
    return grid;
}

/* ------------------------------------------------------------------ tests */

static void is_as_exact_as_its_definition(void **state) {
    static const int32_t dims[] = {16, 40, 64, 128, 256};
    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            const nabla_dtype dtype = (i + (size_t)kind) % 2 ? NABLA_FP32 : NABLA_BF16;
            problem p = make(tiles_of(2, 13, 21, 1), dims[i], dtype, kind % 2 ? "dense_int8" : "nabla-0.6_int8",
                             (tensors)kind); /* tiles of 64, 40 and 25 tokens */
            check_levels(&p, (tensors)kind, 7);
            drop(&p);
        }
}

/* Two frames a tile, so that blocks are cut into pieces; odd ends. */
static void takes_long_blocks(void **state) {
    (void)state;
    problem p = make(tiles_of(3, 9, 11, 2), 64, NABLA_BF16, "sta-1-3-3_int8", RANDOM);
    check_levels(&p, RANDOM, 1);
    drop(&p);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    problem p = make(tiles_of(3, 13, 21, 1), 64, NABLA_BF16, "nabla-0.5_int8", RANDOM);
    const size_t n = (size_t)p.tokens * HEADS * (size_t)p.dim, rows = (size_t)p.tokens * HEADS;
    float *o[2] = {malloc(n * sizeof(float)), malloc(n * sizeof(float))};
    float *lse[2] = {malloc(rows * sizeof(float)), malloc(rows * sizeof(float))};
    for (int32_t i = 0; nabla_level_name(i); i++) {
        attend(&p, nabla_level_name(i), 1, o[0], lse[0]);
        attend(&p, nabla_level_name(i), 3, o[1], lse[1]);
        assert_memory_equal(o[0], o[1], n * sizeof(float));
        assert_memory_equal(lse[0], lse[1], rows * sizeof(float));
    }
    for (int i = 0; i < 2; i++) {
        free(o[i]);
        free(lse[i]);
    }
    drop(&p);
}

/* In a block of keys that some rows keep and others do not: those alone are NaN. A channel of values: that channel. */
static void nan_stays_where_it_is_kept(void **state) {
    (void)state;
    problem p = make(tiles_of(1, 16, 32, 1), 64, NABLA_FP32, "sta-1-3-3_int8", RANDOM);
    const size_t n = (size_t)p.tokens * HEADS * (size_t)p.dim, rows = (size_t)p.tokens * HEADS;
    float *o = malloc(n * sizeof *o), *lse = malloc(rows * sizeof *lse);
    const int64_t bad = 3; /* block, of both heads */
    for (int64_t head = 0; head < HEADS; head++) {
        p.k[(size_t)((p.offsets[bad] + 5) * HEADS + head) * 64 + 9] = head ? INFINITY : NAN;
        p.v[(size_t)(p.offsets[0] * HEADS + head) * 64 + 11] = NAN; /* block 0 */
    }
    p.q[63] = NAN; /* of one row alone */
    for (int32_t i = 0; nabla_level_name(i); i++) {
        attend(&p, nabla_level_name(i), 2, o, lse);
        for (int64_t t = 0; t < p.tokens; t++)
            for (int64_t head = 0; head < HEADS; head++) {
                const uint8_t *kept = p.kept + (head * p.blocks + t / 64) * p.blocks;
                const int all = kept[bad] || (t == 0 && head == 0);
                for (int32_t d = 0; d < p.dim; d++) {
                    const int expected = all || (kept[0] && d == 11);
                    if (isnan(o[(t * HEADS + head) * p.dim + d]) != expected)
                        fail_msg("%s: o[%d, %d, %d] is %g", nabla_level_name(i), (int)t, (int)head, (int)d,
                                 (double)o[(t * HEADS + head) * p.dim + d]);
                }
                assert_int_equal(isnan(lse[head * p.tokens + t]) != 0, all);
            }
    }
    free(o);
    free(lse);
    drop(&p);
}

/* alpha, beta, and rows that keep nothing. */
static void adds_to_what_is_there(void **state) {
    (void)state;
    problem p = make(tiles_of(1, 16, 16, 1), 64, NABLA_FP32, "dense_int8", RANDOM);
    const nabla_policy dense = parse("dense_int8");
    const size_t n = (size_t)p.tokens * HEADS * 64;
    const int64_t shape[] = {1, p.tokens, HEADS, 64};
    float *once = malloc(n * sizeof *once), *twice = malloc(n * sizeof *twice);
    nabla_tensor q = nabla_tensor_contiguous(p.q, NABLA_FP32, 4, shape), o = q, k = q, v = q;
    nabla_attention_params params = nabla_attention_params_default();
    k.data = p.k;
    v.data = p.v;
    for (int32_t i = 0; nabla_level_name(i); i++) {
        nabla_context *c = context_of(nabla_level_name(i), 1);
        ok(nabla_plan_build(c, p.plan, &dense, NULL));
        o.data = once;
        ok(nabla_attention_forward(c, p.plan, NULL, &q, &k, &v, &o, NULL));
        memcpy(twice, p.v, n * sizeof *twice);
        o.data = twice;
        params.alpha = 2.0f;
        params.beta = -0.5f;
        ok(nabla_attention_forward(c, p.plan, &params, &q, &k, &v, &o, NULL));
        for (size_t j = 0; j < n; j++)
            assert_true(fabsf(twice[j] - (2.0f * once[j] - 0.5f * p.v[j])) < 1e-5f);
        nabla_context_destroy(c);
    }
    free(once);
    free(twice);
    drop(&p);
}

/* A plan computes in 8 bits until it is filled in another way. */
static void belongs_to_the_policy(void **state) {
    (void)state;
    problem p = make(tiles_of(1, 16, 16, 1), 64, NABLA_FP32, "dense_int8", RANDOM);
    const nabla_policy dense = parse("dense"), int8 = parse("dense_int8");
    const size_t n = (size_t)p.tokens * HEADS * 64;
    const int64_t shape[] = {1, p.tokens, HEADS, 64}, lse_shape[] = {1, HEADS, p.tokens};
    float *o[4], *lse = noise((size_t)p.tokens * HEADS, 4);
    nabla_tensor q = nabla_tensor_contiguous(p.q, NABLA_FP32, 4, shape), k = q, v = q, out[4];
    const nabla_tensor l = nabla_tensor_contiguous(lse, NABLA_FP32, 3, lse_shape);
    k.data = p.k;
    v.data = p.v;
    for (int i = 0; i < 4; i++) {
        o[i] = malloc(n * sizeof(float));
        out[i] = q;
        out[i].data = o[i];
        if (i == 1) ok(nabla_plan_build(ctx, p.plan, &dense, NULL));
        if (i == 2) ok(nabla_plan_build(ctx, p.plan, &int8, NULL));
        if (i == 3) ok(nabla_plan_import_bitmap(ctx, p.plan, p.kept));
        ok(nabla_attention_forward(ctx, p.plan, NULL, &q, &k, &v, &out[i], &l));
        if (i == 1) ok(nabla_attention_backward(ctx, p.plan, NULL, &q, &k, &v, &out[i], &l, &v, NULL, NULL, NULL));
        if (i != 2) continue;
        assert_int_equal(nabla_attention_backward(ctx, p.plan, NULL, &q, &k, &v, &out[i], &l, &v, NULL, NULL, NULL),
                         NABLA_UNSUPPORTED);
        assert_non_null(strstr(nabla_context_message(ctx), "_int8"));
    }
    assert_memory_equal(o[0], o[2], n * sizeof(float));
    assert_memory_equal(o[1], o[3], n * sizeof(float));
    assert_memory_not_equal(o[0], o[1], n * sizeof(float));
    for (int i = 0; i < 4; i++)
        free(o[i]);
    free(lse);
    drop(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_as_exact_as_its_definition), cmocka_unit_test(takes_long_blocks),
        cmocka_unit_test(threads_change_no_bit),         cmocka_unit_test(nan_stays_where_it_is_kept),
        cmocka_unit_test(adds_to_what_is_there),         cmocka_unit_test(belongs_to_the_policy),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

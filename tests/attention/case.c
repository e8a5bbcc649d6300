/* SPDX-License-Identifier: Apache-2.0 */
#include "case.h"
#include "levels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GUARD = 256 /* elements on each side */,
    MARK = 0xff /* NaN in either dtype */,
    PAD = 24 /* elements after each row */
};

/* ---- random numbers: splitmix64, so that a case is the same everywhere */

static uint64_t draw(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state) {
    return (double)(draw(state) >> 11) * 0x1p-53;
}

static double normal(uint64_t *state) {
    const double r = sqrt(-2.0 * log(1.0 - uniform(state)));
    return r * cos(6.283185307179586 * uniform(state));
}

/* ---- guarded tensors */

static guarded guarded_alloc(nabla_tensor t, int64_t span) {
    guarded g = {.t = t, .elements = span + 2 * GUARD};
    g.bytes = (size_t)g.elements * nabla_dtype_size(t.dtype);
    g.memory = malloc(g.bytes);
    memset(g.memory, MARK, g.bytes);
    g.t.data = g.memory + GUARD * nabla_dtype_size(t.dtype);
    g.used = calloc((size_t)g.elements, sizeof *g.used);
    return g;
}

static int64_t element(const nabla_tensor *t, int64_t n) {
    int64_t offset = 0;
    for (int32_t i = t->rank - 1; i >= 0; i--) {
        offset += n % t->shape[i] * t->stride[i];
        n /= t->shape[i];
    }
    return offset;
}

static int64_t count(const nabla_tensor *t) {
    int64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

/* Elements of the last dimension, which is contiguous. */
static int64_t row_length(const nabla_tensor *t) {
    return t->shape[t->rank - 1];
}

static void mark_used(guarded *g) {
    for (int64_t n = 0; n < count(&g->t); n += row_length(&g->t))
        memset(g->used + GUARD + element(&g->t, n), true, (size_t)row_length(&g->t));
}

guarded guarded_create(const attention_case *c, nabla_dtype dtype, int64_t tokens) {
    const int64_t shape[] = {c->batch, tokens, c->heads, c->head_dim};
    nabla_tensor t = nabla_tensor_contiguous(NULL, dtype, 4, shape);
    const int64_t row = c->head_dim + (c->layout == LAYOUT_PADDED ? PAD : 0);
    t.stride[2] = c->layout == LAYOUT_BHSD ? tokens * row : row;
    t.stride[1] = c->layout == LAYOUT_BHSD ? row : c->heads * row;
    t.stride[0] = c->heads * tokens * row;
    guarded g = guarded_alloc(t, c->batch * t.stride[0]);
    mark_used(&g);
    return g;
}

guarded guarded_create_lse(const attention_case *c, int64_t tokens) {
    const int64_t shape[] = {c->batch, c->heads, tokens};
    guarded g = guarded_alloc(nabla_tensor_contiguous(NULL, NABLA_FP32, 3, shape), c->batch * c->heads * tokens);
    mark_used(&g);
    return g;
}

void guarded_destroy(guarded *g) {
    free(g->memory);
    free(g->used);
}

void guarded_write(guarded *g, const float *x) {
    const int64_t length = row_length(&g->t);
    for (int64_t n = 0; n < count(&g->t); n += length) {
        const int64_t at = element(&g->t, n);
        if (g->t.dtype == NABLA_FP32) memcpy((float *)g->t.data + at, x + n, (size_t)length * sizeof *x);
        for (int64_t i = 0; i < length && g->t.dtype != NABLA_FP32; i++) { /* exact: x was rounded */
            uint32_t bits;
            memcpy(&bits, x + n + i, sizeof bits);
            ((uint16_t *)g->t.data)[at + i] =
                g->t.dtype == NABLA_BF16 ? (uint16_t)(bits >> 16) : naive_fp16_bits(x[n + i]);
        }
    }
}

void guarded_read(const guarded *g, float *x) {
    const int64_t length = row_length(&g->t);
    for (int64_t n = 0; n < count(&g->t); n += length) {
        const int64_t at = element(&g->t, n);
        if (g->t.dtype == NABLA_FP32) memcpy(x + n, (float *)g->t.data + at, (size_t)length * sizeof *x);
        for (int64_t i = 0; i < length && g->t.dtype != NABLA_FP32; i++) {
            const uint16_t narrow = ((uint16_t *)g->t.data)[at + i];
            const uint32_t bits = (uint32_t)narrow << 16;
            memcpy(x + n + i, &bits, sizeof bits);
            if (g->t.dtype == NABLA_FP16) x[n + i] = naive_fp16_value(narrow);
        }
    }
}

bool guarded_intact(const guarded *g) {
    const size_t size = nabla_dtype_size(g->t.dtype);
    for (int64_t i = 0; i < g->elements; i++)
        for (size_t byte = 0; byte < size && !g->used[i]; byte++)
            if (g->memory[(size_t)i * size + byte] != MARK) return false;
    return true;
}

/* ---- a case's data */

int64_t case_q_elements(const case_data *d) {
    return d->c->batch * d->q_tokens * d->c->heads * d->c->head_dim;
}

int64_t case_k_elements(const case_data *d) {
    return d->c->batch * d->k_tokens * d->c->heads * d->c->head_dim;
}

static float *fill(const attention_case *c, int64_t n, double factor, uint64_t *state) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        const double value = normal(state) * factor;
        x[i] = (float)(c->input == INPUT_TIES ? round(value) : value);
        x[i] = naive_round(x[i], c->dtype);
    }
    return x;
}

static nabla_plan_desc describe(const attention_case *c, const nabla_order *order) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = c->batch;
    desc.heads = c->heads;
    desc.q_order = desc.k_order = order;
    desc.q_tokens = c->q_tokens;
    desc.k_tokens = c->k_tokens;
    return desc;
}

static bool ok(nabla_context *ctx, nabla_status status) {
    if (status) printf("  %s: %s\n", nabla_status_string(status), nabla_context_message(ctx));
    return !status;
}

static nabla_tensor view(const attention_case *c, float *x, int64_t tokens) {
    const int64_t shape[] = {c->batch, tokens, c->heads, c->head_dim};
    return nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
}

/* The mask: random, or what the policy chooses on the generic level (selection is check_plan's business). */
static bool choose(nabla_context *ctx, const case_data *d, nabla_plan *plan, uint64_t *state) {
    const attention_case *c = d->c;
    if (c->policy) {
        const nabla_tensor q = view(c, d->q, d->q_tokens), k = view(c, d->k, d->k_tokens);
        nabla_policy policy;
        nabla_plan_inputs in = nabla_plan_inputs_default();
        in.q = &q;
        in.k = &k;
        return ok(ctx, nabla_policy_parse(ctx, c->policy, &policy)) &&
               ok(ctx, nabla_plan_build(ctx, plan, &policy, &in)) &&
               ok(ctx, nabla_plan_export_bitmap(ctx, plan, d->kept));
    }
    for (int64_t i = 0; i < c->batch * c->heads * d->nq * d->nk; i++) {
        d->kept[i] = uniform(state) < c->density;
        if (c->input == INPUT_NAN && i % d->nk == d->nk - 1) d->kept[i] = i / d->nk % d->nq == 0;
    }
    return true;
}

static int32_t *blocks_of(int64_t tokens, const nabla_order *order) {
    int32_t *block = malloc((size_t)tokens * sizeof *block);
    for (int32_t t = 0, b = 0; t < tokens; t++) {
        while (order && t >= nabla_order_offsets(order)[b + 1])
            b++;
        block[t] = order ? b : t / 64;
    }
    return block;
}

static void poison(case_data *d) {
    const int64_t row = d->c->heads * d->c->head_dim;
    for (int64_t i = 0; i < case_k_elements(d); i++)
        if (d->k_block[i / row % d->k_tokens] == d->nk - 1) d->k[i] = d->v[i] = NAN;
}

/* dQ is then NaN at dim 0: 0 times that key's -inf. */
static void hide_a_key(case_data *d) {
    const int64_t dim = d->c->head_dim, row = d->c->heads * dim;
    for (int64_t i = 0; i < case_q_elements(d); i += dim)
        d->q[i] = 1.0f;
    for (int64_t i = 0; i < case_k_elements(d); i += dim)
        if (i / row % d->k_tokens == 3) d->k[i] = -INFINITY;
}

/* By dim 0 alone: what the others add is noise. Of so large values probabilities far above 1 leave no sum finite. */
static void let_rise(case_data *d) {
    const int64_t dim = d->c->head_dim, row = d->c->heads * dim;
    const double most = 100.0 * log(2.0) * sqrt((double)dim);
    for (int64_t i = 0; i < case_q_elements(d); i += dim)
        d->q[i] = 1.0f;
    for (int64_t i = 0; i < case_k_elements(d); i += dim) {
        const double part = (double)(i / row % d->k_tokens) / (double)d->k_tokens;
        d->k[i] = naive_round((float)(part * most), d->c->dtype);
    }
    for (int64_t i = 0; i < case_k_elements(d); i++)
        d->v[i] *= 0x1p90f;
}

static bool case_plan(nabla_context *ctx, case_data *d, const nabla_order *order, uint64_t *state) {
    const nabla_plan_desc desc = describe(d->c, order);
    nabla_plan *plan = NULL;
    nabla_plan_stats stats = {.size = sizeof stats};
    if (!ok(ctx, nabla_plan_create(ctx, &desc, &plan)) || !ok(ctx, nabla_plan_get_stats(ctx, plan, &stats)))
        return false;
    d->nq = stats.q_blocks;
    d->nk = stats.k_blocks;
    d->kept = malloc((size_t)(d->c->batch * d->c->heads * d->nq * d->nk));
    bool fine = choose(ctx, d, plan, state) && ok(ctx, nabla_plan_import_bitmap(ctx, plan, d->kept)) &&
                ok(ctx, nabla_plan_get_stats(ctx, plan, &stats));
    d->pairs = stats.density * (double)(d->c->batch * d->c->heads) * (double)d->q_tokens * (double)d->k_tokens;
    nabla_plan_destroy(plan);
    return fine;
}

bool case_create(const attention_case *c, case_data *d) {
    uint64_t state = c->seed + UINT64_C(0x5eed);
    nabla_context_options options = nabla_context_options_default();
    options.level = "generic";
    nabla_context *ctx = NULL;
    nabla_order *order = NULL;
    *d = (case_data){.c = c, .q_tokens = c->q_tokens, .k_tokens = c->k_tokens};
    if (nabla_context_create(&options, &ctx, NULL, 0)) return false;
    if (c->grid.frames && ok(ctx, nabla_order_create(ctx, &c->grid, &order)))
        d->q_tokens = d->k_tokens = nabla_order_tokens(order);
    const double factor = c->input == INPUT_LARGE ? 12.0 : 1.0;
    d->q = fill(c, case_q_elements(d), factor, &state);
    d->k = fill(c, case_k_elements(d), factor, &state);
    d->v = fill(c, case_k_elements(d), 1.0, &state);
    d->d_o = fill(c, case_q_elements(d), 1.0, &state);
    d->o_before = fill(c, case_q_elements(d), 1.0, &state);
    d->q_block = blocks_of(d->q_tokens, order);
    d->k_block = blocks_of(d->k_tokens, order);
    const bool fine = case_plan(ctx, d, order, &state);
    if (fine && c->input == INPUT_NAN) poison(d);
    if (fine && c->input == INPUT_INFINITE) hide_a_key(d);
    if (fine && c->input == INPUT_RISING) let_rise(d);
    nabla_order_destroy(order);
    nabla_context_destroy(ctx);
    return fine;
}

void case_destroy(case_data *d) {
    free(d->q);
    free(d->k);
    free(d->v);
    free(d->d_o);
    free(d->o_before);
    free(d->kept);
    free(d->q_block);
    free(d->k_block);
}

naive_problem case_problem(const case_data *d) {
    const attention_case *c = d->c;
    return (naive_problem){.batch = c->batch,
                           .heads = c->heads,
                           .q_tokens = d->q_tokens,
                           .k_tokens = d->k_tokens,
                           .head_dim = c->head_dim,
                           .q = d->q,
                           .k = d->k,
                           .v = d->v,
                           .d_o = d->d_o,
                           .o_before = d->o_before,
                           .scale = c->scale != 0.0f ? c->scale : (float)(1.0 / sqrt((double)c->head_dim)),
                           .alpha = c->alpha != 0.0f ? c->alpha : 1.0f,
                           .beta = c->beta,
                           .kept = d->kept,
                           .nq = d->nq,
                           .nk = d->nk,
                           .q_block = d->q_block,
                           .k_block = d->k_block,
                           .operands = c->dtype,
                           .o_dtype = c->o_fp32 ? NABLA_FP32 : c->dtype,
                           .grad_dtype = c->grad_narrow ? c->dtype : NABLA_FP32};
}

void case_print(const attention_case *c) {
    printf("'%s' %s B=%lld H=%lld grid=%dx%dx%d tile=%dx%dx%d Sq=%lld Sk=%lld D=%lld policy=%s density=%g seed=%u",
           c->name, dtype_text(c->dtype), (long long)c->batch, (long long)c->heads, (int)c->grid.frames,
           (int)c->grid.height, (int)c->grid.width, (int)c->grid.tile_frames, (int)c->grid.tile_height,
           (int)c->grid.tile_width, (long long)c->q_tokens, (long long)c->k_tokens, (long long)c->head_dim,
           c->policy ? c->policy : "-", c->density, (unsigned)c->seed);
}

/* ---- the library on a case */

/* The tensors of one run. */
typedef struct tensors {
    guarded q, k, v, d_o, o, lse, d_q, d_k, d_v, o_plain, lse_plain;
} tensors;

static tensors tensors_create(const case_data *d) {
    const attention_case *c = d->c;
    const nabla_dtype o = c->o_fp32 ? NABLA_FP32 : c->dtype, grad = c->grad_narrow ? c->dtype : NABLA_FP32;
    tensors t = {.q = guarded_create(c, c->dtype, d->q_tokens),
                 .k = guarded_create(c, c->dtype, d->k_tokens),
                 .v = guarded_create(c, c->dtype, d->k_tokens),
                 .d_o = guarded_create(c, o, d->q_tokens),
                 .o = guarded_create(c, o, d->q_tokens),
                 .o_plain = guarded_create(c, o, d->q_tokens),
                 .lse = guarded_create_lse(c, d->q_tokens),
                 .lse_plain = guarded_create_lse(c, d->q_tokens),
                 .d_q = guarded_create(c, grad, d->q_tokens),
                 .d_k = guarded_create(c, grad, d->k_tokens),
                 .d_v = guarded_create(c, grad, d->k_tokens)};
    guarded_write(&t.q, d->q);
    guarded_write(&t.k, d->k);
    guarded_write(&t.v, d->v);
    guarded_write(&t.d_o, d->d_o);
    if (c->beta != 0.0f) /* else it keeps its mark, which must not be read */
        guarded_write(&t.o, d->o_before);
    return t;
}

enum { TENSORS = sizeof(tensors) / sizeof(guarded) };

static guarded *tensors_at(tensors *t, size_t i) {
    guarded *const all[TENSORS] = {&t->q,   &t->k,   &t->v,   &t->d_o,     &t->o,        &t->lse,
                                   &t->d_q, &t->d_k, &t->d_v, &t->o_plain, &t->lse_plain};
    return all[i];
}

/* To the GPU, guards and all, and back. */
static bool tensors_upload(nabla_context *ctx, tensors *t) {
    for (size_t i = 0; i < TENSORS; i++) {
        guarded *g = tensors_at(t, i);
        if (!ok(ctx, nabla_memory_allocate(ctx, g->bytes, &g->gpu)) ||
            !ok(ctx, nabla_memory_upload(ctx, g->gpu, g->memory, g->bytes)))
            return false;
        g->t.data = (char *)g->gpu + GUARD * nabla_dtype_size(g->t.dtype);
    }
    return true;
}

static bool tensors_download(nabla_context *ctx, tensors *t) {
    bool fine = ok(ctx, nabla_context_synchronize(ctx));
    for (size_t i = 0; i < TENSORS; i++) {
        guarded *g = tensors_at(t, i);
        fine = fine && ok(ctx, nabla_memory_download(ctx, g->memory, g->gpu, g->bytes));
        nabla_memory_free(ctx, g->gpu);
        g->t.data = g->memory + GUARD * nabla_dtype_size(g->t.dtype);
    }
    return fine;
}

static bool tensors_intact_and_destroy(tensors *t) {
    bool intact = true;
    for (size_t i = 0; i < TENSORS; i++) {
        intact = guarded_intact(tensors_at(t, i)) && intact;
        guarded_destroy(tensors_at(t, i));
    }
    return intact;
}

static float *take(const guarded *g) {
    float *x = malloc((size_t)count(&g->t) * sizeof *x);
    guarded_read(g, x);
    return x;
}

static bool run_passes(nabla_context *ctx, const case_data *d, const nabla_plan *plan, bool deterministic, tensors *t) {
    nabla_attention_params params = nabla_attention_params_default();
    params.scale = d->c->scale;
    params.deterministic = deterministic;
    bool fine =
        ok(ctx, nabla_attention_forward(ctx, plan, &params, &t->q.t, &t->k.t, &t->v.t, &t->o_plain.t, &t->lse_plain.t));
    params.alpha = d->c->alpha != 0.0f ? d->c->alpha : 1.0f;
    params.beta = d->c->beta;
    fine = fine && ok(ctx, nabla_attention_forward(ctx, plan, &params, &t->q.t, &t->k.t, &t->v.t, &t->o.t, &t->lse.t));
    return fine && ok(ctx, nabla_attention_backward(ctx, plan, &params, &t->q.t, &t->k.t, &t->v.t, &t->o_plain.t,
                                                    &t->lse_plain.t, &t->d_o.t, &t->d_q.t, &t->d_k.t, &t->d_v.t));
}

bool case_run(const case_data *d, const char *level, int threads, bool deterministic, case_output *out) {
    nabla_context *ctx = NULL;
    nabla_order *order = NULL;
    nabla_plan *plan = NULL;
    const bool gpu = level_on_gpu(level);
    *out = (case_output){0};
    if (level_context(level, threads, &ctx)) return false;
    if (d->c->grid.frames && !ok(ctx, nabla_order_create(ctx, &d->c->grid, &order))) return false;
    const nabla_plan_desc desc = describe(d->c, order);
    bool fine = ok(ctx, nabla_plan_create(ctx, &desc, &plan)) && ok(ctx, nabla_plan_import_bitmap(ctx, plan, d->kept));
    tensors t = tensors_create(d);
    fine = fine && (!gpu || tensors_upload(ctx, &t)) && run_passes(ctx, d, plan, deterministic, &t);
    if (gpu) fine = tensors_download(ctx, &t) && fine;
    *out =
        (case_output){.o = take(&t.o), .lse = take(&t.lse), .dq = take(&t.d_q), .dk = take(&t.d_k), .dv = take(&t.d_v)};
    out->intact = tensors_intact_and_destroy(&t);
    nabla_plan_destroy(plan);
    nabla_order_destroy(order);
    nabla_context_destroy(ctx);
    return fine;
}

void case_output_destroy(case_output *out) {
    free(out->o);
    free(out->lse);
    free(out->dq);
    free(out->dk);
    free(out->dv);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a plan from a policy: for every row the union of what its terms keep, then what its document allows. */
#include "bits.h"
#include "layout.h"
#include "policy.h"
#include "score.h"

#include <math.h>
#include <omp.h>
#include <string.h>

typedef struct build {
    nabla_plan *plan;
    const nabla_policy *policy;
    const nabla_kernels *kernels;
    nabla_means means;
    double *row_mass; /* [B * H][nq] */
    float *probs;     /* [threads][the kernels' rows][probs_stride] */
    int64_t probs_stride;
} build;

static void add_static_terms(const build *b, int64_t q_block, uint64_t *row) {
    const nabla_plan *plan = b->plan;
    if (b->policy->dense) nabla_set_range(row, 0, plan->nk);
    if (b->policy->has_sta) nabla_policy_keep_window(b->policy, plan->q_tiles, q_block, row);
    if (plan->documents) {
        const uint64_t *allowed = plan->document_bits + plan->document_of[q_block] * plan->k_words;
        for (int64_t w = 0; w < plan->k_words; w++)
            row[w] &= allowed[w];
    }
}

static double mass_of(const uint64_t *row, int64_t words, const float *probs) {
    double mass = 0.0;
    for (int64_t w = 0; w < words; w++)
        for (uint64_t bits = row[w]; bits; bits &= bits - 1)
            mass += (double)probs[w * 64 + __builtin_ctzll(bits)];
    return isfinite(mass) ? mass : 1.0; /* a row of NaN keeps everything */
}

/* Rows [q0, q0 + count) of head bh, all terms. A row is chosen from as soon as it has its softmax: it is in L1 then. */
static void scored_group(const build *b, int64_t bh, int64_t q0, int32_t count, float *probs) {
    const nabla_plan *plan = b->plan;
    const nabla_means *m = &b->means;
    const nabla_score_kernels *score = &b->kernels->score;
    score->products(m->q + (bh * plan->nq + q0) * m->head_dim, count, m->k + (size_t)bh * m->key_bytes,
                    (int32_t)plan->nk, m->head_dim, m->scale, probs, b->probs_stride);
    for (int32_t r = 0; r < count; r++, probs += b->probs_stride) {
        uint64_t *row = nabla_plan_row(plan, bh, q0 + r);
        score->softmax(probs, (int32_t)plan->nk,
                       plan->documents ? plan->document_bits + plan->document_of[q0 + r] * plan->k_words : NULL);
        const double kept = nabla_policy_keep_mass(b->kernels, b->policy, probs, plan->nk, row);
        add_static_terms(b, q0 + r, row);
        /* What a document takes away has no probability; a window adds some. */
        b->row_mass[bh * plan->nq + q0 + r] = b->policy->has_sta ? mass_of(row, plan->k_words, probs) : kept;
    }
}

/* The scratch of one build, in bytes from its base. */
typedef struct build_layout {
    size_t q, k, key_bytes, mass, probs, bytes;
} build_layout;

static nabla_status lay_out(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, build_layout *at) {
    const nabla_score_kernels *score = &ctx->kernels.score;
    const int64_t heads = plan->batch * plan->heads, keys = nabla_score_keys(plan->nk);
    nabla_layout all = {0};
    at->key_bytes = score->keys_size(keys, (int32_t)head_dim);
    at->q = nabla_layout_take(&all, nabla_count_mul(heads, plan->nq * head_dim), sizeof(float));
    at->k = nabla_layout_take(&all, heads, at->key_bytes);
    at->mass = nabla_layout_take(&all, nabla_count_mul(heads, plan->nq), sizeof(double));
    at->probs = nabla_layout_take(&all, nabla_count_mul(ctx->threads, score->rows * keys), sizeof(float));
    at->bytes = all.bytes;
    if (all.overflow)
        return nabla_fail(ctx, NABLA_OVERFLOW, "the block means of %lld heads are too large", (long long)heads);
    return NABLA_OK;
}

nabla_status nabla_cpu_build_memory(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, size_t *bytes) {
    build_layout at;
    const nabla_status status = lay_out(ctx, plan, head_dim, &at);
    if (!status) *bytes = at.bytes;
    return status;
}

static nabla_status build_scored(nabla_context *ctx, build *b, const nabla_scored *in) {
    nabla_plan *plan = b->plan;
    build_layout at;
    nabla_status status = lay_out(ctx, plan, in->head_dim, &at);
    if (status) return status;
    const int64_t heads = plan->batch * plan->heads, rows = ctx->kernels.score.rows,
                  groups = nabla_ceil_div(plan->nq, rows);
    void *base;
    status = nabla_context_scratch(ctx, at.bytes, &base);
    if (status) return status;
    b->means = (nabla_means){.head_dim = in->head_dim,
                             .scale = in->scale,
                             .key_bytes = at.key_bytes,
                             .q = (float *)((char *)base + at.q),
                             .k = (char *)base + at.k};
    b->row_mass = (double *)((char *)base + at.mass);
    b->probs = (float *)((char *)base + at.probs);
    b->probs_stride = nabla_score_keys(plan->nk);

    nabla_cpu_use_sets(plan, false);
    nabla_fill_means(ctx, plan, in, &b->means);
#pragma omp parallel for num_threads(ctx->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < heads * groups; i++) {
        const int64_t q0 = i % groups * rows, left = plan->nq - q0;
        scored_group(b, i / groups, q0, (int32_t)(left < rows ? left : rows),
                     b->probs + omp_get_thread_num() * rows * b->probs_stride);
    }
    double sum = 0.0;
    for (int64_t i = 0; i < heads * plan->nq; i++)
        sum += b->row_mass[i];
    plan->kept_mass = sum / (double)(heads * plan->nq);
    return NABLA_OK;
}

/* Nothing looks at the tokens: one set for all heads. */
static void build_static(nabla_context *ctx, const build *b) {
    nabla_plan *plan = b->plan;
    nabla_cpu_use_sets(plan, true);
#pragma omp parallel for num_threads(ctx->threads) schedule(static)
    for (int64_t q = 0; q < plan->nq; q++) {
        uint64_t *row = nabla_plan_row(plan, 0, q);
        memset(row, 0, (size_t)plan->k_words * sizeof *row);
        add_static_terms(b, q, row);
    }
    plan->kept_mass = b->policy->dense ? 1.0 : NAN;
}

nabla_status nabla_cpu_build(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy, const nabla_scored *in) {
    build b = {.plan = plan, .policy = policy, .kernels = &ctx->kernels};
    nabla_status status = NABLA_OK;
    if (in->head_dim)
        status = build_scored(ctx, &b, in);
    else
        build_static(ctx, &b);
    if (!status) nabla_cpu_finish(ctx, plan);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a plan from a policy, all of it queued: means of blocks, rows, columns. */
#include "layout.h"
#include "state.h"

#include <math.h>

/* The scratch of one build, in bytes from its base. */
typedef struct build_layout {
    size_t workspace, q_mean, k_mean, bytes;
} build_layout;

static nabla_status lay_out(nabla_context *ctx, const nabla_plan *plan, const nabla_cuda_build *b, bool means,
                            build_layout *at) {
    nabla_layout l = {0};
    const int64_t heads = means ? nabla_count_mul(plan->batch, plan->heads) : 0;
    at->workspace = nabla_layout_take(&l, 1, nabla_cuda_build_workspace(b)); /* first: on the base's boundary */
    at->q_mean = nabla_layout_take(&l, nabla_count_mul(heads, plan->nq * b->head_dim), sizeof(float));
    at->k_mean = nabla_layout_take(&l, nabla_count_mul(heads, plan->nk * b->head_dim), sizeof(float));
    at->bytes = l.bytes;
    if (l.overflow)
        return nabla_fail(ctx, NABLA_OVERFLOW, "the block means of %lld heads are too large",
                          (long long)(plan->batch * plan->heads));
    return NABLA_OK;
}

static nabla_cuda_build describe(const nabla_context *ctx, const nabla_plan *plan) {
    nabla_cuda_build b = {.plan = nabla_cuda_view(plan),
                          .documents = (int32_t)plan->documents,
                          .processors = ctx->cuda->processors,
                          .stream = ctx->cuda->stream};
    if (plan->has_tiles) {
        b.tiles[0] = plan->q_tiles.frames;
        b.tiles[1] = plan->q_tiles.height;
        b.tiles[2] = plan->q_tiles.width;
    }
    return b;
}

nabla_status nabla_cuda_build_memory(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, size_t *bytes) {
    nabla_cuda_build b = describe(ctx, plan);
    build_layout at;
    b.has_nabla = true;
    b.has_sta = plan->has_tiles;
    b.head_dim = (int32_t)head_dim;
    const nabla_status status = lay_out(ctx, plan, &b, true, &at);
    *bytes = status ? 0 : at.bytes;
    return status;
}

static nabla_status check_means(nabla_context *ctx, const char *name, const nabla_tensor *t) {
    if ((uintptr_t)t->data % 16)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s must begin on a 16-byte boundary", name);
    int64_t stride = t->shape[3];
    for (int32_t i = 2; i >= 0; stride *= t->shape[i--])
        if (t->shape[i] > 1 && t->stride[i] != stride)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s must be contiguous, [B, H, blocks, D]", name);
    return NABLA_OK;
}

/* Points b at the means: those given, or those that it queues the making of. */
static nabla_status queue_means(nabla_context *ctx, const nabla_scored *in, const build_layout *at, char *base,
                                nabla_cuda_build *b) {
    if (in->q_mean) {
        nabla_status status = check_means(ctx, "q_mean", in->q_mean);
        if (!status) status = check_means(ctx, "k_mean", in->k_mean);
        b->q_mean = in->q_mean->data;
        b->k_mean = in->k_mean->data;
        return status;
    }
    const nabla_cuda_tensor q = nabla_cuda_tensor_of(in->q), k = nabla_cuda_tensor_of(in->k);
    b->q_mean = (float *)(base + at->q_mean);
    b->k_mean = (float *)(base + at->k_mean);
    int error = nabla_cuda_means(&b->plan, false, &q, b->head_dim, b->q_mean, b->stream);
    if (!error) error = nabla_cuda_means(&b->plan, true, &k, b->head_dim, b->k_mean, b->stream);
    return nabla_cuda_check(ctx, error, "taking block means");
}

nabla_status nabla_cuda_run_build(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy,
                                  const nabla_scored *in) {
    const bool scored = in->head_dim != 0;
    const int64_t sets = scored ? plan->batch * plan->heads : 1; /* a mask that looks at nothing is stored once */
    nabla_cuda_build b = describe(ctx, plan);
    build_layout at;
    void *base = NULL;
    b.plan.sets = (int32_t)sets;
    b.dense = policy->dense != 0;
    b.has_nabla = scored;
    b.has_sta = policy->has_sta && !policy->dense;
    b.thr = policy->thr;
    b.sta[0] = policy->sta_frames;
    b.sta[1] = policy->sta_height;
    b.sta[2] = policy->sta_width;
    b.document_of = plan->cuda->document_of;
    b.document_first = plan->cuda->document_first;
    b.head_dim = in->head_dim;
    b.scale = in->scale;
    b.row_mass = plan->cuda->row_mass;
    nabla_status status = lay_out(ctx, plan, &b, scored && in->q, &at);
    if (!status && at.bytes) status = nabla_cuda_scratch(ctx, at.bytes, &base);
    b.workspace = base;
    if (!status && scored) status = queue_means(ctx, in, &at, base, &b);
    if (status) return status;
    plan->sets = sets;
    plan->cuda->scored = scored;
    plan->kept_mass = policy->dense ? 1.0 : NAN;
    status = nabla_cuda_check(ctx, nabla_cuda_build_rows(&b), "building a plan");
    return status ? status : nabla_cuda_check(ctx, nabla_cuda_finish(&b.plan, b.stream), "building a plan");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass. A block is three branches (self-attention, cross-attention, feed-forward); between two of them lies
   a seam: the one before is added to the stream through its gate, the next one's input is normed from it. */
#include "dit/run.h"

nv_patches nv_dit_patches(const nv_dit_run *run, int out) {
    const nv_dit_config *c = &run->m->config;
    return (nv_patches){.batch = run->shape.batch,
                        .channels = out ? c->out_channels : c->in_channels,
                        .size = {run->shape.frames, run->shape.height, run->shape.width},
                        .patch = {c->patch[0], c->patch[1], c->patch[2]},
                        .raster = run->raster,
                        .channels_last = out};
}

/* What comes before: the feed-forward of the layer below, self-attention, or cross-attention (which has no gate). */
static void add_branch_before(const nv_dit_run *run, int32_t layer, int branch, nv_seam *s) {
    const int64_t dim = run->m->dim;
    if (branch == 0 && layer == 0) return;
    const nv_dit_block_run *b = &run->blocks[branch == 0 ? layer - 1 : layer];
    s->y = branch == 0 ? b->ffn_y : branch == 1 ? b->self.y : b->cross.y;
    if (branch == 0) s->gate = b->modulation + NV_DIT_FFN_GATE * dim;
    if (branch == 1) s->gate = b->modulation + NV_DIT_GATE * dim;
    s->gate_stride = NV_DIT_CHUNKS * dim;
}

static void set_output(nv_seam *s, const nv_dit_norm_run *norm) {
    s->n = norm->n;
    s->xhat = norm->xhat;
    s->rstd = norm->rstd;
}

nv_seam nv_dit_seam(const nv_dit_run *run, int32_t layer, int branch) {
    const nv_dit *m = run->m;
    const int64_t dim = m->dim;
    nv_seam s = {.rows = run->rows,
                 .dim = dim,
                 .group_rows = run->tokens,
                 .x = run->stream,
                 .normalise = 1,
                 .eps = m->config.eps,
                 .gain_offset = 1.0f};
    add_branch_before(run, layer, branch, &s);
    if (layer == m->config.layers) {
        set_output(&s, &run->head_norm);
        s.shift = run->head_modulation;
        s.gain = run->head_modulation + dim;
        s.gain_stride = 2 * dim;
        return s;
    }
    const nv_dit_block_run *b = &run->blocks[layer];
    set_output(&s, &b->norm[branch]);
    if (branch == 1) {
        s.normalise = m->config.cross_attn_norm;
        s.gain_offset = 0.0f;
        s.gain = m->blocks[layer].norm2_weight.value;
        s.shift = m->blocks[layer].norm2_bias.value;
        return s;
    }
    s.shift = b->modulation + (branch == 0 ? NV_DIT_SHIFT : NV_DIT_FFN_SHIFT) * dim;
    s.gain = b->modulation + (branch == 0 ? NV_DIT_SCALE : NV_DIT_FFN_SCALE) * dim;
    s.gain_stride = NV_DIT_CHUNKS * dim;
    return s;
}

static nabla_status embed_inputs(nv_dit_run *run, const nv_dit_inputs *in, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const nv_patches patches = nv_dit_patches(run, 0);
    const nv_matrix context = nv_matrix_of(in->context, NABLA_FP32, run->text_rows, m->config.text_dim);
    NV_TRY(dev->ops->patchify(dev, &patches, in->latent, run->patches, err));
    NV_TRY(nv_linear_forward(dev, &m->patch, run->patches, nv_matrix_of(run->x, NABLA_FP32, run->rows, m->dim), err));
    NV_TRY(nv_time_embedding_forward(dev, &m->time, &run->time, in->time, err));
    NV_TRY(dev->ops->cast(dev, context, run->context, err));
    return nv_feed_forward_forward(dev, &m->text, run->context, run->text_u, run->text_wide, run->text, err);
}

static nabla_status seam(nv_dit_run *run, int32_t layer, int branch, nv_error *err) {
    const nv_seam s = nv_dit_seam(run, layer, branch);
    return run->m->device->ops->seam(run->m->device, &s, err);
}

/* From the input of the first branch on. policy NULL: over the plan as it is. */
static nabla_status branches(nv_dit_run *run, int32_t layer, const nabla_policy *policy, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const nv_dit_block *p = &m->blocks[layer];
    nv_dit_block_run *b = &run->blocks[layer];
    const nv_matrix wide = nv_shared_wide(&run->shared, m->config.ffn_dim);
    NV_TRY(nv_self_attention_forward(dev, &p->self, &b->self, b->norm[0].n, policy, err));
    NV_TRY(seam(run, layer, 1, err));
    NV_TRY(nv_cross_attention_forward(dev, &p->cross, &b->cross, b->norm[1].n, run->text, err));
    NV_TRY(seam(run, layer, 2, err));
    return nv_feed_forward_forward(dev, &p->ffn, b->norm[2].n, b->ffn_u, wide, b->ffn_y, err);
}

static nabla_status block_forward(nv_dit_run *run, int32_t layer, const nabla_policy *policy, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    float *kept = run->blocks[layer].kept;
    NV_TRY(dev->ops->modulation(dev, m->blocks[layer].modulation.value, run->time.e.data, run->shape.batch,
                                NV_DIT_CHUNKS, NV_DIT_CHUNKS, m->dim, run->blocks[layer].modulation, err));
    NV_TRY(seam(run, layer, 0, err));
    if (kept) dev->ops->copy(dev, kept, run->x, (size_t)(run->rows * m->dim) * sizeof *kept);
    return branches(run, layer, policy, err);
}

/* The kept stream has in it what the block below gave: the seam has nothing to add. The plan is the one that the
   forward pass built: a bit a pair of blocks is next to nothing beside the stream, and building it takes block means,
   scores and a selection, whose ties nobody then has to keep from falling otherwise. */
nabla_status nv_dit_block_again(nv_dit_run *run, int32_t layer, nv_error *err) {
    nv_device *dev = run->m->device;
    run->stream = run->blocks[layer].kept;
    nv_seam first = nv_dit_seam(run, layer, 0);
    first.y.data = NULL;
    NV_TRY(dev->ops->seam(dev, &first, err));
    return branches(run, layer, NULL, err);
}

static nabla_status head_forward(nv_dit_run *run, float *out, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const nv_patches patches = nv_dit_patches(run, 1);
    NV_TRY(dev->ops->modulation(dev, m->head_modulation.value, run->time.t.data, run->shape.batch, 2, 1, m->dim,
                                run->head_modulation, err));
    NV_TRY(seam(run, m->config.layers, 0, err));
    NV_TRY(nv_linear_forward(dev, &m->head, run->head_norm.n, run->head_out, err));
    return dev->ops->unpatchify(dev, &patches, run->head_out, out, err);
}

static nabla_status count_pairs(nv_dit_run *run, nv_error *err) {
    nabla_context *ctx = run->m->device->context;
    const int64_t heads = nv_dit_run_heads(run) / run->m->config.layers;
    for (int32_t i = 0; i < run->m->config.layers; i++)
        if (nabla_plan_count(ctx, run->plans[i], run->pairs + i * heads) != NABLA_OK)
            return nv_fail(err, NABLA_INTERNAL, "%s", nabla_context_message(ctx));
    return NABLA_OK;
}

static nabla_status check_inputs(const nv_dit_run *run, const nv_dit_inputs *in, nv_error *err) {
    const int32_t batch = run->shape.batch;
    if (!in->latent || !in->time || !in->context)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "a forward pass of %d samples needs latent, time and context",
                       (int)batch);
    return NABLA_OK;
}

nabla_status nv_dit_forward(nv_dit *m, nv_dit_run *run, const nv_dit_inputs *in, float *out, nv_error *err) {
    NV_TRY(check_inputs(run, in, err));
    run->filled = run->backward = 0; /* until the end: a pass that fails leaves a mix */
    run->stream = run->x;
    NV_TRY(embed_inputs(run, in, err));
    for (int32_t i = 0; i < m->config.layers; i++) {
        if (in->stop && in->stop(in->user, i, m->config.layers))
            return nv_fail(err, NABLA_CANCELLED, "stopped before layer %d of %d", (int)i + 1, (int)m->config.layers);
        nv_dit_bring(m, i);
        NV_TRY(block_forward(run, i, in->policy, err));
        nv_dit_leave(m, i);
    }
    NV_TRY(head_forward(run, out, err));
    NV_TRY(count_pairs(run, err));
    run->filled = run->shape.train;
    return NABLA_OK;
}

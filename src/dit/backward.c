/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass: the seams and branches of forward.c from the head down. run->d_x is the gradient of the residual
   stream, run->d_y that of the branch that the last seam closed. */
#include "dit/run.h"

/* Where the gradients of a seam's gate, gain and shift go: those of modulations to the run's sums. */
static nv_seam_grad seam_grad(nv_dit_run *run, int32_t layer, int branch) {
    const nv_dit *m = run->m;
    const int64_t dim = m->dim;
    const int head = layer == m->config.layers;
    nv_seam_grad g = {.d_n = head ? run->d_head_n : run->d_n, .d_x = run->d_x, .first = head, .d_y = run->d_y};
    g.d_gate_stride = NV_DIT_CHUNKS * dim;
    if (branch == 0 && layer > 0) {
        g.d_gate = run->blocks[layer - 1].d_modulation + NV_DIT_FFN_GATE * dim;
        g.d_bias = m->blocks[layer - 1].ffn.down.d_bias;
    } else if (branch == 0) {
        g.d_bias = m->patch.d_bias; /* the stream's own beginning */
    } else {
        g.d_gate = branch == 1 ? run->blocks[layer].d_modulation + NV_DIT_GATE * dim : NULL;
        g.d_bias = branch == 1 ? m->blocks[layer].self.out.d_bias : m->blocks[layer].cross.out.d_bias;
    }
    if (head) {
        g.d_shift = run->d_head_modulation;
        g.d_gain = run->d_head_modulation + dim;
        g.d_gain_stride = 2 * dim;
    } else if (branch == 1) {
        g.d_gain = m->blocks[layer].norm2_weight.grad;
        g.d_shift = m->blocks[layer].norm2_bias.grad;
    } else {
        float *d = run->blocks[layer].d_modulation;
        g.d_shift = d + (branch == 0 ? NV_DIT_SHIFT : NV_DIT_FFN_SHIFT) * dim;
        g.d_gain = d + (branch == 0 ? NV_DIT_SCALE : NV_DIT_FFN_SCALE) * dim;
        g.d_gain_stride = NV_DIT_CHUNKS * dim;
    }
    return g;
}

static nabla_status seam_backward(nv_dit_run *run, int32_t layer, int branch, nv_error *err) {
    const nv_seam s = nv_dit_seam(run, layer, branch);
    const nv_seam_grad g = seam_grad(run, layer, branch);
    return run->m->device->ops->seam_backward(run->m->device, &s, &g, err);
}

static nabla_status head_backward(nv_dit_run *run, const float *d_out, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const nv_patches patches = nv_dit_patches(run, 1);
    NV_TRY(dev->ops->patchify(dev, &patches, d_out, run->head_out, err));
    NV_TRY(nv_linear_backward(dev, &m->head, run->head_norm.n, run->head_out, run->d_head_n, m->head.d_bias, err));
    return seam_backward(run, m->config.layers, 0, err);
}

static nabla_status block_backward(nv_dit_run *run, int32_t layer, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const nv_dit_block *p = &m->blocks[layer];
    nv_dit_block_run *b = &run->blocks[layer];
    const nv_matrix wide = nv_shared_wide(&run->shared, m->config.ffn_dim),
                    d_qkv = nv_shared_wide(&run->shared, 3 * m->dim), d_q = nv_shared_wide(&run->shared, m->dim);
    NV_TRY(nv_feed_forward_backward(dev, &p->ffn, b->norm[2].n, b->ffn_u, run->d_y, wide, run->d_n, NULL, err));
    NV_TRY(seam_backward(run, layer, 2, err));
    NV_TRY(nv_cross_attention_backward(dev, &p->cross, &b->cross, b->norm[1].n, run->text, run->d_y, d_q, run->d_kv,
                                       run->d_n, run->d_text, err));
    NV_TRY(seam_backward(run, layer, 1, err));
    NV_TRY(nv_self_attention_backward(dev, &p->self, &b->self, b->norm[0].n, run->d_y, d_qkv, run->d_n, err));
    if (run->shape.recompute && layer > 0)
        NV_TRY(nv_dit_block_again(run, layer - 1, err)); /* the seam reads its ffn_y */
    return seam_backward(run, layer, 0, err);
}

static nabla_status time_backward(nv_dit_run *run, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const int64_t batch = run->shape.batch;
    for (int32_t i = 0; i < m->config.layers; i++)
        NV_TRY(dev->ops->modulation_backward(dev, run->blocks[i].d_modulation, batch, NV_DIT_CHUNKS, NV_DIT_CHUNKS,
                                             m->dim, m->blocks[i].modulation.grad, run->d_e.data, err));
    NV_TRY(dev->ops->modulation_backward(dev, run->d_head_modulation, batch, 2, 1, m->dim, m->head_modulation.grad,
                                         run->d_t_head, err));
    return nv_time_embedding_backward(dev, &m->time, &run->time, run->d_e, run->d_t_head, err);
}

static nabla_status text_backward(nv_dit_run *run, float *d_context, nv_error *err) {
    nv_dit *m = run->m;
    nv_device *dev = m->device;
    const nv_matrix none = {0};
    NV_TRY(dev->ops->cast(dev, run->d_text, run->d_text_y, err));
    NV_TRY(nv_feed_forward_backward(dev, &m->text, run->context, run->text_u, run->d_text_y, run->text_wide,
                                    d_context ? run->d_text_x : none, m->text.down.d_bias, err));
    if (!d_context) return NABLA_OK;
    return dev->ops->cast(dev, run->d_text_x, nv_matrix_of(d_context, NABLA_FP32, run->text_rows, m->config.text_dim),
                          err);
}

/* The sums that the pass adds to start at zero. */
static void clear_sums(nv_dit_run *run) {
    const nv_dit *m = run->m;
    nv_device *dev = m->device;
    const size_t vector = (size_t)run->shape.batch * (size_t)m->dim * sizeof(float);
    for (int32_t i = 0; i < m->config.layers; i++)
        dev->ops->zero(dev, run->blocks[i].d_modulation, NV_DIT_CHUNKS * vector);
    dev->ops->zero(dev, run->d_head_modulation, 2 * vector);
    dev->ops->zero(dev, run->d_e.data, NV_DIT_CHUNKS * vector);
    dev->ops->zero(dev, run->d_t_head, vector);
    dev->ops->zero(dev, run->d_text.data, (size_t)(run->d_text.rows * run->d_text.cols) * sizeof(float));
}

nabla_status nv_dit_backward(nv_dit *m, nv_dit_run *run, const nv_dit_inputs *in, const float *d_out, float *d_context,
                             nv_error *err) {
    (void)in; /* all that is needed of it was saved */
    if (!run->filled)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "a backward pass needs a forward pass of the same run before it, "
                       "with shape.train = 1");
    run->filled = 0;
    run->backward = 1;
    clear_sums(run);
    NV_TRY(head_backward(run, d_out, err));
    for (int32_t i = m->config.layers; i-- > 0;)
        NV_TRY(block_backward(run, i, err));
    NV_TRY(nv_linear_backward(m->device, &m->patch, run->patches, run->d_y, (nv_matrix){0}, NULL, err));
    NV_TRY(time_backward(run, err));
    return text_backward(run, d_context, err);
}

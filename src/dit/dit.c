/* SPDX-License-Identifier: Apache-2.0 */
/* A model: its memory, the layers that are views of it, and the copy that products read. */
#include "dit/dit.h"
#include "dit/model.h"
#include "tensor/bf16.h"
#include "tensor/hash.h"
#include <stdlib.h>
#include <string.h>

static nabla_status check_config(const nv_dit_config *c, nv_error *err) {
    const struct {
        const char *name;
        int32_t value;
    } positive[] = {
        {"patch_size[0]", c->patch[0]},      {"patch_size[1]", c->patch[1]},    {"patch_size[2]", c->patch[2]},
        {"in_channels", c->in_channels},     {"out_channels", c->out_channels}, {"num_attention_heads", c->heads},
        {"attention_head_dim", c->head_dim}, {"num_layers", c->layers},         {"ffn_dim", c->ffn_dim},
        {"freq_dim", c->freq_dim},           {"text_dim", c->text_dim},         {"rope_max_seq_len", c->rope_max}};
    const int32_t most = 1 << 20; /* of one size: far above any model, and products of two stay within 64 bits */
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (positive[i].value < 1 || positive[i].value > most)
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s is %d; it must be 1 to %d", positive[i].name,
                           (int)positive[i].value, (int)most);
    if (c->head_dim < 16 || c->head_dim > 256 || c->head_dim % 8)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "attention_head_dim is %d; it must be 16 to 256 in steps of 8",
                       (int)c->head_dim);
    if (c->freq_dim % 2) return nv_fail(err, NABLA_INVALID_ARGUMENT, "freq_dim is %d; it must be even", c->freq_dim);
    if (!(c->eps > 0.0f && c->eps < 1.0f))
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "eps is %g; it must be above 0, such as 1e-6", (double)c->eps);
    return NABLA_OK;
}

/* ------------------------------------------------------------------------------------------ views */

static nv_dit_vector vector_of(nv_dit *m, int32_t layer, const char *name) {
    const nv_parameter *p = nv_dit_find(m, layer, name);
    return p ? (nv_dit_vector){p->value, p->grad} : (nv_dit_vector){0};
}

/* `parts` weights of shape [out, in] under `weight` and what follows it in the arena. */
static nv_linear linear_of(nv_dit *m, int32_t layer, const char *weight, const char *bias, int parts) {
    const nv_parameter *w = nv_dit_find(m, layer, weight), *b = nv_dit_find(m, layer, bias);
    const int64_t out = w->shape[0], in = (int64_t)w->count / out;
    const nv_matrix matrix = w->rounded ? nv_matrix_of(w->copy, NABLA_BF16, parts * out, in)
                                        : nv_matrix_of(w->value, NABLA_FP32, parts * out, in);
    return (nv_linear){matrix, b->value, w->grad, b->grad};
}

static void make_block(nv_dit *m, int32_t i) {
    nv_dit_block *b = &m->blocks[i];
    const nv_dit_vector q1 = vector_of(m, i, "attn1.norm_q.weight"), k1 = vector_of(m, i, "attn1.norm_k.weight"),
                        q2 = vector_of(m, i, "attn2.norm_q.weight"), k2 = vector_of(m, i, "attn2.norm_k.weight");
    b->modulation = vector_of(m, i, "scale_shift_table");
    b->norm2_weight = vector_of(m, i, "norm2.weight");
    b->norm2_bias = vector_of(m, i, "norm2.bias");
    b->self = (nv_self_attention){.qkv = linear_of(m, i, "attn1.to_q.weight", "attn1.to_q.bias", 3),
                                  .out = linear_of(m, i, "attn1.to_out.0.weight", "attn1.to_out.0.bias", 1),
                                  .norm_q = q1.value,
                                  .norm_k = k1.value,
                                  .d_norm_q = q1.grad,
                                  .d_norm_k = k1.grad,
                                  .heads = m->config.heads,
                                  .eps = m->config.eps};
    b->cross = (nv_cross_attention){.q = linear_of(m, i, "attn2.to_q.weight", "attn2.to_q.bias", 1),
                                    .kv = linear_of(m, i, "attn2.to_k.weight", "attn2.to_k.bias", 2),
                                    .out = linear_of(m, i, "attn2.to_out.0.weight", "attn2.to_out.0.bias", 1),
                                    .norm_q = q2.value,
                                    .norm_k = k2.value,
                                    .d_norm_q = q2.grad,
                                    .d_norm_k = k2.grad,
                                    .heads = m->config.heads,
                                    .eps = m->config.eps};
    b->ffn.up = linear_of(m, i, "ffn.net.0.proj.weight", "ffn.net.0.proj.bias", 1);
    b->ffn.down = linear_of(m, i, "ffn.net.2.weight", "ffn.net.2.bias", 1);
}

static void make_layers(nv_dit *m) {
#define EMBEDDER "condition_embedder."
    m->patch = linear_of(m, -1, "patch_embedding.weight", "patch_embedding.bias", 1);
    m->time.in = linear_of(m, -1, EMBEDDER "time_embedder.linear_1.weight", EMBEDDER "time_embedder.linear_1.bias", 1);
    m->time.out = linear_of(m, -1, EMBEDDER "time_embedder.linear_2.weight", EMBEDDER "time_embedder.linear_2.bias", 1);
    m->time.project = linear_of(m, -1, EMBEDDER "time_proj.weight", EMBEDDER "time_proj.bias", 1);
    m->text.up = linear_of(m, -1, EMBEDDER "text_embedder.linear_1.weight", EMBEDDER "text_embedder.linear_1.bias", 1);
    m->text.down =
        linear_of(m, -1, EMBEDDER "text_embedder.linear_2.weight", EMBEDDER "text_embedder.linear_2.bias", 1);
    m->head = linear_of(m, -1, "proj_out.weight", "proj_out.bias", 1);
    m->head_modulation = vector_of(m, -1, "scale_shift_table");
    for (int32_t i = 0; i < m->config.layers; i++)
        make_block(m, i);
#undef EMBEDDER
}

/* ------------------------------------------------------------------------------------------ life */

/* Masters, gradients and what products read of the parameters [first, last); within each one parameter after the other,
   so that weights that act as one product are one matrix. */
static void take_span(nv_dit *m, nv_arena *arena, size_t first, size_t last) {
    const int train = m->use == NV_DIT_TRAIN;
    int64_t masters = 0, copies = 0;
    for (size_t i = first; i < last; i++) {
        const nv_parameter *p = &m->parameters[i];
        if (train || !p->rounded) masters += (int64_t)p->count;
        if (p->rounded) copies += (int64_t)p->count;
    }
    float *value = nv_arena_take(arena, masters, sizeof *value);
    float *grad = train ? nv_arena_take(arena, masters, sizeof *grad) : NULL;
    uint16_t *copy = nv_arena_take(arena, copies, sizeof *copy);
    for (size_t i = first; i < last && arena->base; i++) {
        nv_parameter *p = &m->parameters[i];
        if (p->rounded) {
            p->copy = copy;
            copy += p->count;
        }
        if (!train && p->rounded) continue;
        p->value = value;
        value += p->count;
        if (!train) continue;
        p->grad = grad;
        grad += p->count;
    }
}

/* Blocks come last in the list, each with as many parameters. */
static size_t first_of(const nv_dit *m, int32_t layer) {
    size_t ends = 0;
    while (ends < m->count && m->parameters[ends].layer < 0)
        ends++;
    return ends + (m->count - ends) / (size_t)m->config.layers * (size_t)layer;
}

enum { SLOT_BOUNDARY = 256 /* bytes; as a device's own memory begins */ };

/* Block after block into its slot's memory. */
static void take_slots(nv_dit *m, nv_arena *arena) {
    const int32_t slots = m->config.layers < NV_DIT_SLOTS ? m->config.layers : NV_DIT_SLOTS;
    nv_arena block = {0};
    take_span(m, &block, first_of(m, 0), first_of(m, 1));
    m->offload.bytes = (block.used + SLOT_BOUNDARY - 1) / SLOT_BOUNDARY * SLOT_BOUNDARY;
    m->offload.slots = nv_arena_take(arena, slots, m->offload.bytes);
    for (int32_t layer = 0; layer < m->config.layers && m->offload.slots; layer++) {
        block =
            (nv_arena){.base = m->offload.slots + (size_t)(layer % slots) * m->offload.bytes, .size = m->offload.bytes};
        take_span(m, &block, first_of(m, layer), first_of(m, layer + 1));
    }
}

static void take_all(nv_dit *m, nv_arena *arena) {
    const int offloads = m->use == NV_DIT_OFFLOAD;
    take_span(m, arena, 0, offloads ? first_of(m, 0) : m->count);
    if (offloads) take_slots(m, arena);
}

static nabla_status take_memory(nv_dit *m, nv_error *err) {
    nv_arena arena = {0};
    take_all(m, &arena);
    NV_TRY(m->device->ops->allocate(m->device, arena.used, &m->memory, err));
    arena = (nv_arena){.base = m->memory, .size = arena.used};
    take_all(m, &arena);
    return m->use == NV_DIT_OFFLOAD ? nv_dit_offload_open(m, err) : NABLA_OK;
}

static nv_matrix matrix_of(const nv_parameter *p, const void *data, nabla_dtype dtype) {
    const int64_t rows = p->rank > 1 ? p->shape[0] : 1;
    return nv_matrix_of(data, dtype, rows, (int64_t)p->count / rows);
}

nv_matrix nv_dit_stored(const nv_parameter *p) {
    return p->value ? matrix_of(p, p->value, NABLA_FP32) : matrix_of(p, p->copy, NABLA_BF16);
}

nabla_status nv_dit_describe(nv_dit *m, nv_error *err) {
    const nv_dit_config *c = &m->config;
    NV_TRY(check_config(c, err));
    const int64_t patch = (int64_t)c->patch[0] * c->patch[1] * c->patch[2];
    m->dim = (int64_t)c->heads * c->head_dim;
    if (c->patch[0] > 64 || c->patch[1] > 64 || c->patch[2] > 64 || m->dim > 1 << 20)
        return nv_fail(err, NABLA_UNSUPPORTED, "patches of %d x %d x %d at width %lld are beyond any Wan2.1 model",
                       (int)c->patch[0], (int)c->patch[1], (int)c->patch[2], (long long)m->dim);
    m->patch_in = patch * c->in_channels;
    m->patch_out = patch * c->out_channels;
    m->blocks = calloc((size_t)c->layers, sizeof *m->blocks);
    if (!m->blocks) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d layers", (int)c->layers);
    return nv_dit_list_parameters(m, err);
}

void nv_dit_forget(nv_dit *m) {
    free(m->parameters);
    free(m->names);
    free(m->blocks);
}

static nabla_status build(nv_dit *m, nv_error *err) {
    NV_TRY(nv_dit_describe(m, err));
    NV_TRY(take_memory(m, err));
    make_layers(m);
    return NABLA_OK;
}

nabla_status nv_dit_check_offload(const nv_device *device, nv_error *err) {
    if (device->ops->stow) return NABLA_OK;
    return nv_fail(
        err, NABLA_UNSUPPORTED,
        "a processor computes in the host's memory, where the weights are anyway: offloading them is for a GPU");
}

static nabla_status check_compute(nabla_dtype compute, nv_error *err) {
    if (compute == NABLA_FP32 || compute == NABLA_BF16) return NABLA_OK;
    return nv_fail(err, NABLA_UNSUPPORTED, "a transformer computes in fp32 or bf16, not in dtype %d", (int)compute);
}

nabla_status nv_dit_estimate(nv_device *device, const nv_dit_config *config, nabla_dtype compute, nv_dit_use use,
                             const nv_dit_shape *shape, nv_dit_needs *out, nv_error *err) {
    nv_dit m = {.device = device, .config = *config, .compute = compute, .use = use};
    nv_arena arena = {0};
    NV_TRY(check_compute(compute, err));
    nabla_status status = nv_dit_describe(&m, err);
    if (status == NABLA_OK) {
        make_layers(&m);
        take_all(&m, &arena);
        *out = (nv_dit_needs){.model = arena.used, .values = m.total};
        out->host = (size_t)config->layers * m.offload.bytes;
        status = nv_dit_run_memory(&m, shape, &out->run, err);
    }
    nv_dit_forget(&m);
    return status;
}

nabla_status nv_dit_create(nv_device *device, const nv_dit_config *config, nabla_dtype compute, nv_dit_use use,
                           nv_dit **out, nv_error *err) {
    *out = NULL;
    NV_TRY(check_compute(compute, err));
    if (use == NV_DIT_OFFLOAD) NV_TRY(nv_dit_check_offload(device, err));
    nv_dit *m = calloc(1, sizeof *m);
    if (!m) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a model");
    m->device = device;
    m->config = *config;
    m->compute = compute;
    m->use = use;
    nabla_status status = build(m, err);
    if (status != NABLA_OK) {
        nv_dit_destroy(m);
        return status;
    }
    *out = m;
    return NABLA_OK;
}

void nv_dit_destroy(nv_dit *m) {
    if (!m) return;
    nv_dit_offload_close(m);
    if (m->memory) m->device->ops->release(m->device, m->memory);
    nv_dit_forget(m);
    free(m);
}

const nv_dit_config *nv_dit_get_config(const nv_dit *m) {
    return &m->config;
}

size_t nv_dit_parameter_count(const nv_dit *m) {
    return m->count;
}

nv_parameter *nv_dit_parameter(nv_dit *m, size_t i) {
    return i < m->count ? &m->parameters[i] : NULL;
}

size_t nv_dit_values(const nv_dit *m) {
    return m->total;
}

void nv_dit_write(nv_dit *m, const nv_parameter *p, size_t first, const float *values, size_t count) {
    nv_device *dev = m->device;
    nv_bf16 rounded[4096];
    nv_dit_reach(m, p, 1);
    if (p->value) {
        dev->ops->upload(dev, p->value + first, values, count * sizeof *values);
        return;
    }
    for (size_t at = 0; at < count;) {
        const size_t room = sizeof rounded / sizeof *rounded, n = count - at < room ? count - at : room;
        for (size_t i = 0; i < n; i++)
            rounded[i] = nv_bf16_from_float(values[at + i]);
        dev->ops->upload(dev, (uint16_t *)p->copy + first + at, rounded, n * sizeof *rounded);
        at += n;
    }
}

nabla_status nv_dit_read(nv_dit *m, const nv_parameter *p, size_t first, float *values, size_t count, nv_error *err) {
    nv_device *dev = m->device;
    nv_bf16 rounded[4096];
    nv_dit_reach(m, p, 0);
    if (p->value) return dev->ops->download(dev, values, p->value + first, count * sizeof *values, err);
    for (size_t at = 0; at < count;) {
        const size_t room = sizeof rounded / sizeof *rounded, n = count - at < room ? count - at : room;
        NV_TRY(dev->ops->download(dev, rounded, (uint16_t *)p->copy + first + at, n * sizeof *rounded, err));
        for (size_t i = 0; i < n; i++)
            values[at + i] = nv_bf16_to_float(rounded[i]);
        at += n;
    }
    return NABLA_OK;
}

uint64_t nv_dit_fingerprint(nv_dit *m) {
    float values[64];
    const size_t most = sizeof values / sizeof *values;
    uint64_t hash = NV_HASH_BEGIN;
    for (size_t i = 0; i < m->count; i++) {
        const nv_parameter *p = &m->parameters[i];
        const size_t n = p->count < most ? p->count : most;
        if (nv_dit_read(m, p, 0, values, n, NULL) == NABLA_OK) hash = nv_hash(hash, values, n * sizeof *values);
    }
    return hash;
}

nabla_status nv_dit_update(nv_dit *m, nv_error *err) {
    for (size_t i = 0; i < m->count; i++) {
        const nv_parameter *p = &m->parameters[i];
        if (p->rounded && p->value)
            NV_TRY(m->device->ops->cast(m->device, nv_dit_stored(p), matrix_of(p, p->copy, NABLA_BF16), err));
    }
    nv_dit_settle(m);
    return NABLA_OK;
}
